//! One process of oha within a mix: which request it sends at what pace, what its answers must be, and
//! which of them were wrong.

use std::time::Duration;

use super::api::Answer;
use super::mix::{Alike, Group, Push};
use super::oha::{Report, Run};
use super::verify::{self, Expected};

/// Who sends the requests: a name for messages, and a token unless the requests carry none.
#[derive(Clone)]
pub(super) struct Actor {
    pub(super) name: String,
    pub(super) token: Option<String>,
}

/// One process of oha, and what is known about its answers.
pub(super) struct Generator<'a> {
    pub(super) group: &'a Group,
    pub(super) actor: Actor,
    pub(super) run: Run,
    pub(super) pace: Pace,
    /// The answer that all others must equal, as far as `group.alike` demands.
    pub(super) reference: Answer,
    /// The last answer before the load.
    pub(super) latest: Answer,
    /// The length of a refusal that was read completely.
    pub(super) refusal_length: Option<u64>,
    /// Correct answers to single calls during the load.
    pub(super) probes: u64,
    /// All correct answers so far, those of the warm-up and of single calls included.
    pub(super) correct: u64,
    pub(super) wrong: Vec<String>,
}

/// Below this share of its pace, a run is reported as too slow.
pub(super) const MIN_PACE_SHARE: f64 = 0.95;

/// How many requests a second one process sends, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    Full,
    /// Because of the limit, or because the scenario says so.
    PerSecond(f64),
    /// Half of what the warm-up reached.
    Half(f64),
}

impl Pace {
    /// `rate` is the limit's in requests a second, `reached` what the warm-up reached at full speed.
    pub(super) fn choose(push: Push, rate: Option<f64>, reached: f64) -> Self {
        let limited = rate.filter(|rate| *rate < 1.25 * reached);
        match (push, limited) {
            (Push::Within, Some(rate)) => Self::PerSecond(0.8 * rate),
            (Push::Within, None) | (Push::Over, _) => Self::Full,
            (Push::Gently, Some(rate)) if 0.4 * rate <= 0.5 * reached => {
                Self::PerSecond(0.4 * rate)
            }
            (Push::Gently, _) => Self::Half((0.5 * reached).max(1.0)),
            (Push::Paced(pace), _) => Self::PerSecond(pace),
        }
    }

    pub(super) fn per_second(self) -> Option<f64> {
        match self {
            Self::Full => None,
            Self::PerSecond(pace) | Self::Half(pace) => Some(pace),
        }
    }

    /// As text, for all `processes` together.
    pub(super) fn describe(self, processes: usize) -> String {
        match self {
            Self::Full => "full speed".to_owned(),
            Self::PerSecond(pace) => {
                let tenths = (pace * processes as f64 * 10.0).round();
                format!("{}/s", tenths / 10.0)
            }
            Self::Half(_) => "half speed".to_owned(),
        }
    }
}

impl Generator<'_> {
    pub(super) fn token(&self) -> Option<&str> {
        self.actor.token.as_deref()
    }

    pub(super) fn run_for(&self, duration: Duration) -> Run {
        Run {
            duration,
            ..self.run.clone()
        }
    }

    /// Checks an answer that was read completely.
    pub(super) fn check(&mut self, answer: anyhow::Result<Answer>) {
        let group = self.group;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.wrong.push(format!("{error:#}")),
        };
        if answer.status == group.status {
            self.probes += 1;
            self.correct += 1;
            let (reference, body) = (&self.reference.body, &answer.body);
            if !verify::alike(&group.call.method, reference, body, group.alike) {
                let wrong = format!("an answer differs from the first: {}", answer.summary());
                self.wrong.push(wrong);
            }
        } else if answer.status == 429 && group.push == Push::Over {
            match verify::is_refusal(&answer.headers, &answer.body) {
                true => self.refusal_length = Some(answer.body.len() as u64),
                false => self
                    .wrong
                    .push(format!("a refusal is malformed: {}", answer.summary())),
            }
        } else {
            self.wrong
                .push(format!("an answer was {}", answer.summary()));
        }
    }

    pub(super) fn expected(&self, outage: bool) -> Expected {
        let same = self.group.alike == Alike::Same;
        Expected {
            status: self.group.status,
            length: same.then_some(self.reference.body.len() as u64),
            over_limit: self.group.push == Push::Over,
            refusal_length: self.refusal_length,
            limits: self.latest.limits.clone(),
            probes: self.probes,
            outage,
        }
    }

    /// What the limit let through of this process's requests, as text.
    pub(super) fn limit_summary(&self, report: &Report, outage: bool) -> String {
        let limits = &self.latest.limits;
        let (name, correct) = (&self.actor.name, report.of(self.group.status));
        let most = limits.most(report.seconds, u64::from(outage));
        match most.filter(|_| verify::limit_was_reached(report)) {
            Some(most) => format!(
                "{name}: {correct} let through, at most {most} may be in {:.2} s ({limits})",
                report.seconds
            ),
            None => format!("{name}: the limit was not reached ({limits})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_what_the_platform_can_do_sets_the_pace() {
        let within = |rate, reached| Pace::choose(Push::Within, rate, reached);
        assert_eq!(within(Some(100.0), 5000.0), Pace::PerSecond(80.0));
        assert_eq!(within(Some(1e6), 5000.0), Pace::Full);
        assert_eq!(within(None, 5000.0), Pace::Full);
        // This close to it, the limit would refuse a request now and then.
        assert_eq!(within(Some(6000.0), 5000.0), Pace::PerSecond(4800.0));
    }

    #[test]
    fn a_pace_is_told_for_all_processes_together() {
        let words = [(80.0, 1), (0.25, 3), (40.0, 8)]
            .map(|(pace, processes)| Pace::PerSecond(pace).describe(processes));
        assert_eq!(words, ["80/s", "0.8/s", "320/s"]);
    }

    #[test]
    fn the_crowd_leaves_room_and_the_hot_one_does_not() {
        let gently = |rate, reached| Pace::choose(Push::Gently, rate, reached);
        assert_eq!(gently(Some(100.0), 500.0), Pace::PerSecond(40.0));
        assert_eq!(gently(Some(1e6), 500.0), Pace::Half(250.0));
        assert_eq!(gently(Some(100.0), 70.0), Pace::Half(35.0));
        assert_eq!(gently(None, 0.1), Pace::Half(1.0));
        assert_eq!(Pace::choose(Push::Over, Some(100.0), 500.0), Pace::Full);
        assert_eq!(
            Pace::choose(Push::Paced(5.0), Some(1.0), 500.0),
            Pace::PerSecond(5.0)
        );
    }
}
