//! Spaces batches out under load.
//!
//! A batch costs the servers about the same whether it holds one event or fifty. Under load, a batch that
//! begins a little later holds more events, and the servers have time for more of them. Without load
//! nothing waits.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Grants one turn per `every`, and up to `in_a_row` turns at once after a pause. A GCRA: it admits exactly
/// what a token bucket of `in_a_row` tokens does.
#[derive(Debug)]
pub(crate) struct Pace {
    every: Duration,
    in_a_row: u32,
    next: Instant,
}

impl Pace {
    pub(crate) fn new(every: Duration, in_a_row: u32) -> Self {
        let mut pace = Self {
            every,
            in_a_row,
            next: Instant::now(),
        };
        pace.next = pace.earliest(pace.next);
        pace
    }

    /// The earliest time that the next turn may have: at most `in_a_row` unused turns are kept.
    fn earliest(&self, now: Instant) -> Instant {
        let saved = self.every * self.in_a_row.saturating_sub(1);
        now.checked_sub(saved).unwrap_or(now)
    }

    /// Waits for the next turn. A future that is dropped while it waits takes none.
    pub(crate) async fn turn(&mut self) {
        let turn = self.next.max(self.earliest(Instant::now()));
        sleep_until(turn).await;
        self.next = turn + self.every;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn a_few_pass_at_once_and_then_one_in_each_interval() {
        let (mut pace, begun) = (Pace::new(EVERY, 3), Instant::now());
        let mut passed = Vec::new();
        for _ in 0..5 {
            pace.turn().await;
            passed.push(begun.elapsed());
        }
        assert_eq!(passed, [0, 0, 0, 20, 40].map(Duration::from_millis));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_seldom_never_waits() {
        let mut pace = Pace::new(EVERY, 3);
        for _ in 0..100 {
            let asked = Instant::now();
            pace.turn().await;
            assert_eq!(asked.elapsed(), Duration::ZERO);
            tokio::time::advance(EVERY).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_no_more_than_a_few_turns() {
        let mut pace = Pace::new(EVERY, 3);
        pace.turn().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..13 {
            pace.turn().await;
        }
        assert_eq!(begun.elapsed(), EVERY * 10);
    }
}
