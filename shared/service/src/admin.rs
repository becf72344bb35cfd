//! Serves `/metrics`, `/healthz` and `/readyz`, alike on every service.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{config::HealthArgs, origin, rate::AddressArgs, serve};

/// The components of a service, and whether each one is ready.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<HealthState>>,
    log_fsync: Arc<str>,
}

#[derive(Debug, Default)]
struct HealthState {
    /// `None` for a component that is ready; otherwise the reason why it is not.
    components: BTreeMap<&'static str, Option<String>>,
    replicas: Option<usize>,
}

/// One component of a service.
#[derive(Clone, Debug)]
pub struct HealthComponent {
    health: Health,
    name: &'static str,
}

impl Health {
    /// Creates the health of a service without components yet.
    #[must_use]
    pub fn new(args: &HealthArgs) -> Self {
        Self { state: Arc::default(), log_fsync: args.log_fsync.as_str().into() }
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a component, which is not ready until [`HealthComponent::ready`].
    #[must_use]
    pub fn component(&self, name: &'static str) -> HealthComponent {
        let component = HealthComponent { health: self.clone(), name };
        component.not_ready("starting");
        component
    }

    /// Sets the number of servers that hold a copy of each stream, which `/readyz` reports.
    pub fn set_replicas(&self, replicas: usize) {
        self.state().replicas = Some(replicas);
    }

    /// Whether every component is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state().components.values().all(Option::is_none)
    }

    fn report(&self) -> serde_json::Value {
        let state = self.state();
        let components: BTreeMap<_, _> = state
            .components
            .iter()
            .map(|(name, reason)| (*name, reason.as_deref().unwrap_or("ok")))
            .collect();
        serde_json::json!({
            "ready": state.components.values().all(Option::is_none),
            "components": components,
            "log": { "replicas": state.replicas, "fsync": &*self.log_fsync },
        })
    }
}

impl HealthComponent {
    fn set(&self, reason: Option<String>) {
        self.health.state().components.insert(self.name, reason);
    }

    /// Marks the component as ready.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Marks the component as not ready, with the reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }
}

/// The three routes, for an admin port.
pub fn router(health: Health, metrics: PrometheusHandle) -> Router {
    probes(health).route("/metrics", get(move || async move { render_metrics(&metrics) }))
}

/// The three routes, for a port that clients reach. `/metrics` serves only programs on this machine, and only under an
/// address or `localhost`, so that no web page can read it by DNS rebinding.
pub fn router_for_clients(health: Health, metrics: PrometheusHandle, address: AddressArgs) -> Router {
    let metrics = move |request: Request| async move {
        let is_safe_host = serve::host(&request).is_ok_and(|host| host.is_none_or(origin::is_rebinding_safe));
        if is_safe_host && address.is_local(&request) {
            render_metrics(&metrics)
        } else {
            let detail = "Metrics are on ROOMCAST_ADMIN_LISTEN, and here for programs on this machine.\n";
            (StatusCode::FORBIDDEN, detail).into_response()
        }
    };
    probes(health).route("/metrics", get(metrics))
}

fn probes(health: Health) -> Router {
    let readyz = move || async move { readyz(&health) };
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(readyz))
}

fn render_metrics(metrics: &PrometheusHandle) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

fn readyz(health: &Health) -> Response {
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(health.report())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_fails_if_one_part_is_not_ready() {
        let health = Health::new(&HealthArgs { log_fsync: "always".to_owned() });
        let (nats, postgres) = (health.component("nats"), health.component("postgres"));
        nats.ready();
        assert!(!health.is_ready());
        postgres.ready();
        assert!(health.is_ready());
        postgres.not_ready("gone");
        assert_eq!(health.report()["components"]["postgres"], "gone");
        assert_eq!(health.report()["log"]["fsync"], "always");
    }
}
