//! One binary of all end-to-end tests: linking it once is most of their cost.

mod browser;
mod direct;
mod faults;
mod flow;
mod least_privilege;
mod limits;
mod live;
mod load;
mod log;
mod matches;
mod native;
mod rate;
mod rights;
mod support;
mod tidy;
mod tokens;
mod topics;
