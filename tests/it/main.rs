//! Builds one binary of all end-to-end tests: linking it once is most of their cost.

mod browser;
mod cycles;
mod direct;
mod documents;
mod encrypted;
mod faults;
mod flow;
mod golden;
mod hostile;
mod http;
mod least_privilege;
mod limits;
mod live;
mod load;
mod log;
mod matches;
mod native;
mod plans;
mod rate;
mod rights;
mod support;
mod tidy;
mod together;
mod tokens;
mod topics;
