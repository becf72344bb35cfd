//! The program `roomcast-api`: one api node.

use std::process::ExitCode;

fn main() -> ExitCode {
    let config: api::Config = shared::config::parse();
    shared::telemetry::init_logs(&config.log);
    let drain = config.drain.time();
    shared::lifecycle::run_main("roomcast-api", drain, |shutdown| api::run(config, shutdown))
}
