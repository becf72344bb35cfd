//! The program `roomcast-fanout`: one fan-out node.

use std::process::ExitCode;

fn main() -> ExitCode {
    let config: fanout::Config = shared::config::parse();
    shared::telemetry::init_logs(&config.log);
    let drain = config.drain.time();
    shared::lifecycle::run_main("roomcast-fanout", drain, |shutdown| fanout::run(config, shutdown))
}
