//! The gateway's Prometheus metrics. Labels are names from the configuration, never client input.

use std::sync::Arc;

use pingora_proxy::Session;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use runtime::telemetry::register;

use crate::auth::Revocations;
use crate::limits::{Mode, RateLimiter, Tallies};
use crate::observe::access_log::{AccessLog, status};
use crate::request::canonical::METHODS;
use crate::request::ctx::RequestCtx;
use crate::upstream::Cluster;

const SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// The metrics that are updated at the end of each request.
#[derive(Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    duration: Histogram,
    upstream: HistogramVec,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let requests = IntCounterVec::new(
            Opts::new("gateway_requests_total", "Requests answered."),
            &["service", "method", "status"],
        );
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "gateway_request_duration_seconds",
                "Time from a request's head to the end of its response.",
            )
            .buckets(SECONDS.to_vec()),
        );
        let upstream = HistogramVec::new(
            HistogramOpts::new(
                "gateway_upstream_duration_seconds",
                "Time from a request's head to the upstream's first byte, and to the end.",
            )
            .buckets(SECONDS.to_vec()),
            &["service", "phase"],
        );
        Self {
            requests: register(registry, requests),
            duration: register(registry, duration),
            upstream: register(registry, upstream),
        }
    }

    pub fn observe(&self, session: &Session, ctx: &RequestCtx) {
        let method = session.req_header().method.as_str();
        let method = METHODS.iter().find(|known| **known == method);
        let method = method.copied().unwrap_or("other");
        let mut digits = itoa::Buffer::new();
        let service = ctx.service();
        self.requests
            .with_label_values(&[service, method, digits.format(status(session))])
            .inc();
        let took = ctx.started.elapsed().as_secs_f64();
        self.duration.observe(took);
        if let Some(first_byte) = ctx.first_byte {
            let observe = |phase, seconds| {
                self.upstream
                    .with_label_values(&[service, phase])
                    .observe(seconds);
            };
            observe("first_byte", first_byte.as_secs_f64());
            observe("total", took);
        }
    }
}

/// The metrics that are read from the gateway's state when they are collected.
pub struct StateCollector {
    clusters: Vec<Arc<Cluster>>,
    limiter: Arc<dyn RateLimiter>,
    tallies: Arc<Tallies>,
    access_log: Arc<AccessLog>,
    revocations: Option<Arc<Revocations>>,
    healthy: IntGaugeVec,
    decisions: IntCounterVec,
    redis_calls: IntCounterVec,
    leased: IntCounterVec,
    mode: IntGauge,
    breaker: IntGauge,
    lines_dropped: IntCounter,
    revocation_age: Gauge,
    revocation_failures: IntCounter,
}

impl StateCollector {
    pub fn new(
        clusters: Vec<Arc<Cluster>>,
        limiter: Arc<dyn RateLimiter>,
        tallies: Arc<Tallies>,
        access_log: Arc<AccessLog>,
        revocations: Option<Arc<Revocations>>,
    ) -> Result<Self, prometheus::Error> {
        let counters =
            |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        Ok(Self {
            clusters,
            limiter,
            tallies,
            access_log,
            revocations,
            healthy: IntGaugeVec::new(
                Opts::new(
                    "gateway_upstream_healthy",
                    "1 where a replica takes requests.",
                ),
                &["service", "address"],
            )?,
            decisions: counters(
                "gateway_limiter_decisions_total",
                "Decisions of the rate limiter, by policy and outcome.",
                &["policy", "outcome"],
            )?,
            redis_calls: counters(
                "gateway_limiter_redis_calls_total",
                "Calls to Redis.",
                &["outcome"],
            )?,
            leased: counters(
                "gateway_limiter_leased_tokens_total",
                "Tokens leased from Redis, and those handed back unspent.",
                &["outcome"],
            )?,
            breaker: IntGauge::new(
                "gateway_limiter_breaker",
                "0: closed, Redis decides; 1: open, Redis is not asked; 2: half open, Redis is probed.",
            )?,
            lines_dropped: IntCounter::new(
                "gateway_access_log_dropped_total",
                "Access log lines dropped because their reader was too slow.",
            )?,
            mode: IntGauge::new(
                "gateway_limiter_mode",
                "0: the buckets are in Redis; 1: they are in this process, because Redis is away.",
            )?,
            revocation_age: Gauge::new(
                "gateway_revocation_age_seconds",
                "Time since a user worker last reported the ended sessions.",
            )?,
            revocation_failures: IntCounter::new(
                "gateway_revocation_failures_total",
                "Failed attempts to ask a user worker for ended sessions.",
            )?,
        })
    }
}

impl Collector for StateCollector {
    fn desc(&self) -> Vec<&Desc> {
        let mut descs = self.healthy.desc();
        descs.extend(self.decisions.desc());
        descs.extend(self.redis_calls.desc());
        descs.extend(self.leased.desc());
        descs.extend(self.mode.desc());
        descs.extend(self.breaker.desc());
        descs.extend(self.lines_dropped.desc());
        descs.extend(self.revocation_age.desc());
        descs.extend(self.revocation_failures.desc());
        descs
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Name resolution adds and removes addresses.
        self.healthy.reset();
        for cluster in &self.clusters {
            for replica in cluster.replicas().iter() {
                let address = replica.address.to_string();
                self.healthy
                    .with_label_values(&[cluster.service().name.as_str(), address.as_str()])
                    .set(replica.is_healthy().into());
            }
        }
        // The counters are kept elsewhere; these only expose their values.
        self.decisions.reset();
        for (policy, tally) in self.tallies.snapshot() {
            for (outcome, count) in [
                ("admitted", tally.admitted),
                ("denied", tally.denied),
                ("too_many_in_flight", tally.too_many_in_flight),
                ("would_deny", tally.shadowed),
                ("failure_mode_allowed", tally.unchecked),
                ("unavailable", tally.unavailable),
            ] {
                self.decisions
                    .with_label_values(&[policy.as_str(), outcome])
                    .inc_by(count);
            }
        }
        let status = self.limiter.status();
        self.mode.set((status.mode == Mode::Local).into());
        self.breaker.set(status.breaker as i64);
        self.leased.reset();
        let leases = status.leases;
        for (outcome, tokens) in [
            ("granted", leases.granted),
            ("handed_back", leases.handed_back),
        ] {
            self.leased.with_label_values(&[outcome]).inc_by(tokens);
        }
        self.redis_calls.reset();
        let calls = status.redis_calls;
        for (outcome, count) in [("answered", calls.answered), ("failed", calls.failed)] {
            self.redis_calls.with_label_values(&[outcome]).inc_by(count);
        }
        self.lines_dropped.reset();
        self.lines_dropped.inc_by(self.access_log.dropped());
        let mut families = self.healthy.collect();
        families.extend(self.lines_dropped.collect());
        families.extend(self.decisions.collect());
        families.extend(self.redis_calls.collect());
        families.extend(self.leased.collect());
        families.extend(self.mode.collect());
        families.extend(self.breaker.collect());
        if let Some(revocations) = &self.revocations {
            self.revocation_age.set(revocations.age().as_secs_f64());
            self.revocation_failures.reset();
            self.revocation_failures
                .inc_by(revocations.feed_status().failed);
            families.extend(self.revocation_age.collect());
            families.extend(self.revocation_failures.collect());
        }
        families
    }
}
