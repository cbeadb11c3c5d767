//! What an outage came to, and when its backlog was gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::load::table;

/// The backlog is drained once it is no more than what comes in this time.
const IN_STEP: Duration = Duration::from_millis(500);

/// What was created in one stretch of time.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    pub(super) created: u64,
    pub(super) created_per_second: f64,
    pub(super) told: u64,
    pub(super) latency_ms: BTreeMap<String, f64>,
    /// Of several processes of oha, one after the other: the percentiles are those of the slowest.
    pub(super) upper_bounds: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) started_at: String,
    pub(super) cores: usize,
    pub(super) oha: String,
    pub(super) rate: Option<f64>,
    /// Between the moment before RabbitMQ was taken away and the one at which it was called back.
    pub(super) away_seconds: f64,
    /// Created and not told when RabbitMQ was called back.
    pub(super) backlog: u64,
    /// From then until the first of them was told, and until the backlog was drained.
    pub(super) first_told_seconds: f64,
    pub(super) drained_seconds: f64,
    /// In the time between these two; `told` also what the first look found.
    pub(super) told: u64,
    pub(super) told_per_second: f64,
    pub(super) phases: Vec<Phase>,
    /// The most that was seen, by process, in MiB.
    pub(super) memory_mib: BTreeMap<String, u64>,
    pub(super) created: u64,
    pub(super) wrong: Vec<String>,
    pub(super) facts: Vec<String>,
}

/// What stood where at one moment.
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) created: u64,
    pub(super) told: u64,
}

/// Seconds since RabbitMQ was called back, and what was told between them.
#[derive(Debug, PartialEq)]
pub(super) struct Drain {
    pub(super) first: f64,
    pub(super) ended: f64,
    pub(super) told: u64,
}

impl Drain {
    /// Whether and when a backlog was drained, while `rate` tasks a second came in.
    pub(super) fn find(backlog: &Seen, seen: &[Seen], rate: f64) -> Option<Self> {
        let since = |seen: &Seen| seen.at.duration_since(backlog.at).as_secs_f64();
        let first = seen.iter().position(|seen| seen.told > backlog.told)?;
        let few = rate * IN_STEP.as_secs_f64();
        let drained = |seen: &&Seen| seen.created.saturating_sub(seen.told) as f64 <= few;
        let ended = seen[first..].iter().find(drained)?;
        // What the first look found was told before it.
        let before = first.checked_sub(1).map_or(backlog, |before| &seen[before]);
        Some(Self {
            first: since(before),
            ended: since(ended),
            told: ended.told - backlog.told,
        })
    }
}

impl Outcome {
    pub(super) fn text(&self) -> String {
        let mut lines = vec![
            [
                "phase", "seconds", "201", "per s", "p50 ms", "p99 ms", "told",
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
            Some(rate) => format!(", {:.1} times what came in", self.told_per_second / rate),
            None => String::new(),
        };
        text += &format!(
            "  RabbitMQ was away for {:.1} s, and {} tasks waited to be told. The first was told {:.1} s after it was called back;\n  \
             the backlog was gone after {:.1} s, at {} a second between the two{times}\n",
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

    /// Ten a second come in; 100 wait when RabbitMQ is called back.
    fn seen(back: Instant, looks: &[(f64, u64)]) -> Vec<Seen> {
        let look = |&(seconds, told): &(f64, u64)| Seen {
            at: back + Duration::from_secs_f64(seconds),
            created: 100 + (seconds * 10.0) as u64,
            told,
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_backlog_is_drained_when_it_is_no_more_than_comes_in_half_a_second() {
        let back = Instant::now();
        let backlog = &seen(back, &[(0.0, 0)])[0];
        let looks = [
            (1.0, 0),
            (2.0, 0),
            (3.0, 60),
            (4.0, 130),
            (5.0, 146),
            (6.0, 160),
        ];
        assert_eq!(
            Drain::find(backlog, &seen(back, &looks), 10.0),
            Some(Drain {
                first: 2.0,
                ended: 5.0,
                told: 146
            })
        );
        assert_eq!(Drain::find(backlog, &seen(back, &looks[..4]), 10.0), None);
        // Without anything that comes in, all of it has to be told.
        assert_eq!(Drain::find(backlog, &seen(back, &looks[..5]), 0.0), None);
    }

    #[test]
    fn nothing_is_drained_before_anything_was_told() {
        let back = Instant::now();
        let backlog = &seen(back, &[(0.0, 100)])[0];
        assert_eq!(Drain::find(backlog, &seen(back, &[(0.2, 100)]), 10.0), None);
    }
}
