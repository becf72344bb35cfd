//! Builds all end-to-end tests into one binary, since linking is most of their build time.

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
