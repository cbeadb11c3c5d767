//! The result of an outage, and when its backlog was gone.
//!
//! `told` in the JSON counts notifications that have arrived.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::load::table;

/// The backlog counts as drained once it is no more than what arrives in this time.
const DRAINED: Duration = Duration::from_millis(500);

/// The tasks that were created before, during or after the outage.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    pub(super) created: u64,
    pub(super) created_per_second: f64,
    pub(super) told: u64,
    pub(super) latency_ms: BTreeMap<String, f64>,
    /// Whether several processes of oha ran, one after the other. The percentiles are then those of the
    /// slowest.
    pub(super) upper_bounds: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) started_at: String,
    pub(super) cores: usize,
    pub(super) oha: String,
    pub(super) rate: Option<f64>,
    /// From just before RabbitMQ was stopped until it was started again.
    pub(super) away_seconds: f64,
    /// Notifications that were pending when RabbitMQ was started again.
    pub(super) backlog: u64,
    /// From then until the first of them arrived, and until the backlog was drained.
    pub(super) first_told_seconds: f64,
    pub(super) drained_seconds: f64,
    /// Notifications that arrived between these two moments, those of the first sample included.
    pub(super) told: u64,
    pub(super) told_per_second: f64,
    pub(super) phases: Vec<Phase>,
    /// The most memory of each process, in MiB.
    pub(super) memory_mib: BTreeMap<String, u64>,
    pub(super) created: u64,
    pub(super) wrong: Vec<String>,
    pub(super) facts: Vec<String>,
}

/// How many tasks were created and how many notifications had arrived at one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) created: u64,
    pub(super) notified: u64,
}

/// When the first notification arrived and when the backlog was gone, in seconds since RabbitMQ was
/// started again, and how many notifications arrived between the two.
#[derive(Debug, PartialEq)]
pub(super) struct Drain {
    pub(super) first: f64,
    pub(super) ended: f64,
    pub(super) notified: u64,
}

impl Drain {
    /// When a backlog was drained, while `rate` tasks a second were created. `None` if it was not.
    pub(super) fn find(backlog: &Sample, samples: &[Sample], rate: f64) -> Option<Self> {
        let since = |sample: &Sample| sample.at.duration_since(backlog.at).as_secs_f64();
        let first = samples
            .iter()
            .position(|sample| sample.notified > backlog.notified)?;
        let few = rate * DRAINED.as_secs_f64();
        let drained =
            |sample: &&Sample| sample.created.saturating_sub(sample.notified) as f64 <= few;
        let ended = samples[first..].iter().find(drained)?;
        // The notifications in the first sample arrived after the sample before it.
        let before = first
            .checked_sub(1)
            .map_or(backlog, |before| &samples[before]);
        Some(Self {
            first: since(before),
            ended: since(ended),
            notified: ended.notified - backlog.notified,
        })
    }
}

impl Outcome {
    pub(super) fn text(&self) -> String {
        let mut lines = vec![
            [
                "phase", "seconds", "201", "per s", "p50 ms", "p99 ms", "notified",
            ]
            .map(str::to_owned),
        ];
        for phase in &self.phases {
            let ms = |name: &str| match phase.latency_ms.get(name) {
                Some(ms) if phase.upper_bounds => format!("≤ {}", table::figure(*ms)),
                Some(ms) => table::figure(*ms),
                None => "–".to_owned(),
            };
            lines.push([
                phase.name.to_owned(),
                format!("{:.1}", phase.seconds),
                table::grouped(phase.created),
                table::figure(phase.created_per_second),
                ms("p50"),
                ms("p99"),
                table::grouped(phase.told),
            ]);
        }
        let mut text = table::aligned(&lines, &[0]);
        text += "≤ several processes of oha one after the other: the percentile of the slowest\n";
        let times = match self.rate {
            Some(rate) => format!(
                ", {:.1} times the rate of new tasks",
                self.told_per_second / rate
            ),
            None => String::new(),
        };
        text += &format!(
            "  RabbitMQ was down for {:.1} s, and {} notifications were pending. The first arrived {:.1} s after it was started again;\n  \
             the backlog was gone after {:.1} s, at {} notifications a second between the two{times}\n",
            self.away_seconds,
            table::grouped(self.backlog),
            self.first_told_seconds,
            self.drained_seconds,
            table::figure(self.told_per_second),
        );
        let memory = self.memory_mib.iter();
        let memory: Vec<_> = memory.map(|(name, mib)| format!("{name} {mib}")).collect();
        text += &format!("  memory, the most in MiB: {}\n", memory.join(", "));
        for fact in &self.facts {
            text += &format!("  {fact}\n");
        }
        for wrong in &self.wrong {
            text += &format!("  WRONG: {wrong}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten tasks a second are created; 100 notifications are pending when RabbitMQ is started again.
    fn samples(back: Instant, notified: &[(f64, u64)]) -> Vec<Sample> {
        let sample = |&(seconds, notified): &(f64, u64)| Sample {
            at: back + Duration::from_secs_f64(seconds),
            created: 100 + (seconds * 10.0) as u64,
            notified,
        };
        notified.iter().map(sample).collect()
    }

    #[test]
    fn a_backlog_is_drained_when_it_is_no_more_than_comes_in_half_a_second() {
        let back = Instant::now();
        let backlog = &samples(back, &[(0.0, 0)])[0];
        let notified = [
            (1.0, 0),
            (2.0, 0),
            (3.0, 60),
            (4.0, 130),
            (5.0, 146),
            (6.0, 160),
        ];
        assert_eq!(
            Drain::find(backlog, &samples(back, &notified), 10.0),
            Some(Drain {
                first: 2.0,
                ended: 5.0,
                notified: 146
            })
        );
        assert_eq!(
            Drain::find(backlog, &samples(back, &notified[..4]), 10.0),
            None
        );
        // If no tasks are created any more, all notifications have to arrive.
        assert_eq!(
            Drain::find(backlog, &samples(back, &notified[..5]), 0.0),
            None
        );
    }

    #[test]
    fn nothing_is_drained_before_anything_was_told() {
        let back = Instant::now();
        let backlog = &samples(back, &[(0.0, 100)])[0];
        assert_eq!(
            Drain::find(backlog, &samples(back, &[(0.2, 100)]), 10.0),
            None
        );
    }
}
