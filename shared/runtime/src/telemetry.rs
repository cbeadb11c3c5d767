//! Logs as JSON lines on standard error, and Prometheus metrics.

use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::json;

/// Starts logging. `filter` is an `EnvFilter` directive such as `info` or `info,pingora=warn`.
/// A second call in one process (several services in one) changes nothing.
pub fn init(filter: &str) -> Result<(), String> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(filter)
        .map_err(|why| format!("LOG: `{filter}` is not a filter: {why}"))?;
    // An error means that it was set before, and the first one stays.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .try_init()
        .or(Ok(()))
}

/// Registers a metric. Panics if its name is used twice, which is a bug that the first start shows.
pub fn register<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: Result<M, prometheus::Error>,
) -> M {
    match metric.and_then(|metric| registry.register(Box::new(metric.clone())).map(|()| metric)) {
        Ok(metric) => metric,
        Err(why) => panic!("metric: {why}"),
    }
}

/// All registered metrics in the text exposition format.
pub fn render(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::error!(%error, "metrics could not be written");
    }
    text
}

/// All registered counters and gauges by name: a number, or with labels a list of `{labels, value}`. For people
/// and scripts that read `/status`; histograms are for Prometheus only.
pub fn figures(registry: &Registry) -> serde_json::Map<String, serde_json::Value> {
    let families = registry.gather();
    let numbers = families.iter().filter(|family| {
        matches!(
            family.get_field_type(),
            MetricType::COUNTER | MetricType::GAUGE
        )
    });
    let figure = |family: &MetricFamily| {
        let value = |metric: &Metric| match family.get_field_type() {
            MetricType::COUNTER => metric.get_counter().get_value(),
            _ => metric.get_gauge().get_value(),
        };
        let labelled = |metric: &Metric| {
            let labels = metric.get_label().iter();
            let labels: serde_json::Map<_, _> = labels
                .map(|label| (label.name().to_owned(), label.value().into()))
                .collect();
            json!({"labels": labels, "value": value(metric)})
        };
        match family.get_metric() {
            [only] if only.get_label().is_empty() => json!(value(only)),
            several => several.iter().map(labelled).collect(),
        }
    };
    numbers
        .map(|family| (family.name().to_owned(), figure(family)))
        .collect()
}
