//! The record of a mix, from what its generators have found and what oha has counted.

use std::time::Duration;

use super::generator::{Generator, MIN_PACE_SHARE};
use super::mix::{Mix, Push};
use super::oha::{Latency, Report};
use super::record::{MixRecord, Row, RowSettings, milliseconds};
use super::verify::MAX_COMPLAINTS;

/// A mix that has been measured.
pub(super) struct Summary<'a> {
    pub(super) mix: &'a Mix,
    pub(super) generators: &'a [Generator<'a>],
    /// Of each generator, in the same order.
    pub(super) reports: &'a [Report],
    /// Calls of the gateways to Redis that failed during the load.
    pub(super) redis_failures: u64,
    /// The platform's address.
    pub(super) url: &'a str,
    /// How long the mix was to be measured.
    pub(super) duration: Duration,
}

impl Summary<'_> {
    pub(super) fn record(&self) -> MixRecord {
        let mut record = MixRecord::new(&self.mix.name);
        for generator in self.generators {
            let name = &generator.actor.name;
            let wrong = generator.wrong.iter().take(MAX_COMPLAINTS);
            record
                .wrong
                .extend(wrong.map(|wrong| format!("{name}: {wrong}")));
            if let Some(more @ 1..) = generator.wrong.len().checked_sub(MAX_COMPLAINTS) {
                record.wrong.push(format!("{name}: … and {more} more"));
            }
        }
        record.verified = record.wrong.is_empty();
        for report in self.reports {
            for (status, count) in &report.statuses {
                *record.statuses.entry(*status).or_default() += count;
            }
            for (error, count) in &report.errors {
                *record.errors.entry(error.clone()).or_default() += count;
            }
        }
        for group in &self.mix.groups {
            let of_group =
                |(generator, _): &(&Generator<'_>, &Report)| generator.group.name == group.name;
            let all = self.generators.iter().zip(self.reports);
            let group: Vec<_> = all.filter(of_group).collect();
            self.rows(&group, &mut record);
            for (generator, report) in group
                .iter()
                .filter(|(generator, _)| generator.group.push == Push::Over)
            {
                record
                    .facts
                    .push(generator.limit_summary(report, self.redis_failures > 0));
            }
        }
        if self.redis_failures > 0 {
            record.facts.push(format!(
                "{} calls of the gateways to Redis failed meanwhile: limits were local then, which may let one more burst through",
                self.redis_failures
            ));
        }
        let probes: u64 = self.generators.iter().map(|g| g.probes).sum();
        if record.verified {
            record.facts.push(format!(
                "{probes} answers read whole beside the load were right"
            ));
        }
        record
    }

    /// Adds one row for each expected status of a group, and a fact if the group fell behind its pace.
    fn rows(&self, generators: &[(&Generator<'_>, &Report)], record: &mut MixRecord) {
        let Some((first, _)) = generators.first() else {
            return;
        };
        let group = first.group;
        let seconds = generators
            .iter()
            .map(|(_, r)| r.seconds)
            .fold(0.0, f64::max);
        let settings = RowSettings {
            url: self.url.to_owned(),
            seconds: self.duration.as_secs_f64(),
            connections: generators
                .iter()
                .map(|(generator, _)| generator.run.connections)
                .sum(),
            processes: generators.len(),
            pace: first.pace.describe(generators.len()),
            limits: first.latest.limits.to_string(),
        };
        let over_limit = group.push == Push::Over;
        for status in [Some(group.status), over_limit.then_some(429)]
            .into_iter()
            .flatten()
        {
            let answers = generators.iter().map(|(_, report)| report.of(status)).sum();
            if answers == 0 {
                continue;
            }
            let slower = |all: Latency, (_, report): &(&Generator<'_>, &Report)| {
                all.upper_bound(report.latency(status))
            };
            record.rows.push(Row {
                mix: self.mix.name.clone(),
                group: group.name.clone(),
                status,
                answers,
                per_second: answers as f64 / seconds,
                latency_ms: milliseconds(&generators.iter().fold(Latency::default(), slower)),
                upper_bounds: generators.len() > 1,
                settings: settings.clone(),
            });
        }
        let sent: f64 = generators
            .iter()
            .map(|(_, r)| r.requests() as f64)
            .sum::<f64>()
            / seconds;
        let paced: Option<f64> = generators
            .iter()
            .map(|(generator, _)| generator.run.pace)
            .sum();
        if let Some(paced) = paced.filter(|paced| sent < MIN_PACE_SHARE * paced) {
            record.facts.push(format!(
                "{}: only {sent:.0} of {paced:.0} requests a second could be sent; those that were not are in no percentile",
                group.name
            ));
        }
    }
}
