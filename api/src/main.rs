//! Runs `roomcast-api`: one api node.

use std::process::ExitCode;

fn main() -> ExitCode {
    let config: api::Config = service::config::parse();
    service::telemetry::init_logs(&config.log);
    let drain = config.drain.time();
    service::lifecycle::run_main("roomcast-api", drain, |shutdown| api::run(config, shutdown))
}
