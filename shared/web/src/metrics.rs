//! Counts and durations of a worker's requests.

use std::time::Duration;

use http::Method;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use runtime::telemetry::register;

/// The metrics of one worker. Labels are route patterns, never paths.
#[derive(Clone)]
pub(crate) struct HttpMetrics {
    worker: &'static str,
    requests: IntCounterVec,
    duration: HistogramVec,
}

impl HttpMetrics {
    pub(crate) fn new(worker: &'static str, registry: &Registry) -> Self {
        let requests = IntCounterVec::new(
            Opts::new("worker_requests_total", "Requests answered."),
            &["worker", "method", "route", "status"],
        );
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "worker_request_duration_seconds",
                "Time from a request's head to its answer's head.",
            )
            .buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
            ]),
            &["worker", "route"],
        );
        Self {
            worker,
            requests: register(registry, requests),
            duration: register(registry, duration),
        }
    }

    pub(crate) fn observe(&self, method: &Method, route: &str, status: u16, took: Duration) {
        // Clients can invent methods, and labels must be bounded.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        self.requests
            .with_label_values(&[self.worker, method, route, &status.to_string()])
            .inc();
        self.duration
            .with_label_values(&[self.worker, route])
            .observe(took.as_secs_f64());
    }
}
