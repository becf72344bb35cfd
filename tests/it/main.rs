//! Builds one binary of all end-to-end tests: linking it once is most of their cost.

mod api;
mod browser;
mod cycles;
mod encrypted;
mod fanout;
mod faults;
mod flow;
mod golden;
mod hostile;
mod least_privilege;
mod load;
mod persister;
mod plans;
mod service;
mod tidy;
mod together;
