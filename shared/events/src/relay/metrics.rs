//! What can be seen of the relay from outside.

use jiff::Timestamp;
use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};
use runtime::telemetry::register;

use crate::outbox::Backlog;

pub(super) struct Metrics {
    pending: IntGauge,
    oldest: Gauge,
    published: IntCounterVec,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let pending = IntGauge::new("outbox_pending", "Subjects with unpublished events.");
        let oldest = Gauge::new(
            "outbox_oldest_seconds",
            "Age of the oldest unpublished event.",
        );
        let published = IntCounterVec::new(
            Opts::new("relay_published_total", "Events handed to the broker."),
            &["outcome"],
        );
        let metrics = Self {
            pending: register(registry, pending),
            oldest: register(registry, oldest),
            published: register(registry, published),
        };
        metrics.published(0);
        metrics.failed(0);
        metrics
    }

    pub(super) fn backlog(&self, backlog: &Backlog, now: Timestamp) {
        self.pending
            .set(i64::try_from(backlog.subjects).unwrap_or(i64::MAX));
        let age = backlog
            .oldest
            .map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64());
        self.oldest.set(age.max(0.0));
    }

    pub(super) fn published(&self, count: usize) {
        self.published
            .with_label_values(&["confirmed"])
            .inc_by(count as u64);
    }

    pub(super) fn failed(&self, count: usize) {
        self.published
            .with_label_values(&["failed"])
            .inc_by(count as u64);
    }
}
