//! Sets up logs and metrics, once per process.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{LogFormat, LogFormatArgs},
    metric_names,
};

/// Bucket bounds of every histogram of seconds.
const SECONDS_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bucket bounds of every histogram of events.
const EVENTS_BUCKETS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0];
/// Interval at which histograms process what was recorded.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts logging to standard output.
pub fn init_logs(args: &LogFormatArgs) {
    let filter = EnvFilter::try_new(&args.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    // A second call in one process has no effect.
    let _ = match args.log_format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Pretty => logs.try_init(),
    };
}

/// Starts recording metrics. Must be called within a runtime, before any metric is created. Further calls return the
/// same handle.
pub fn install_metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)
                .and_then(|builder| {
                    builder
                        .set_buckets_for_metric(Matcher::Suffix("_batch_events".to_owned()), EVENTS_BUCKETS)
                })
                .and_then(PrometheusBuilder::install_recorder)
                .expect("bounds are not empty, and no other recorder is installed");
            metric_names::describe();
            let upkeep = handle.clone();
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
                loop {
                    ticks.tick().await;
                    upkeep.run_upkeep();
                }
            });
            handle
        })
        .clone()
}
