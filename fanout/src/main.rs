//! Runs `roomcast-fanout`: one fan-out node.

use std::process::ExitCode;

fn main() -> ExitCode {
    let config: fanout::Config = service::config::parse();
    service::telemetry::init_logs(&config.log);
    let drain = config.drain.time();
    service::lifecycle::run_main("roomcast-fanout", drain, |shutdown| fanout::run(config, shutdown))
}
