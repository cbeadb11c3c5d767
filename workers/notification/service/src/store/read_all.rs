//! Marking everything as read with an `Idempotency-Key`, as every store does it: in steps, each of which
//! stores how far it came. A request that repeats the key, in parallel or after a crash, continues the
//! same read-all and gets the same answer.

use stores::Once;

/// What one step found, and how far the read-all is after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The key was used with another body.
    DifferentBody,
    Marked {
        /// This step was the first with this key.
        first: bool,
        /// How many notifications all steps together have marked.
        updated: u64,
        done: bool,
    },
}

/// One request's part in a read-all.
#[derive(Debug, Default)]
pub struct ReadAll {
    began_here: bool,
}

impl ReadAll {
    /// The answer after a step; `None` while another step is needed.
    pub fn after(&mut self, step: Step) -> Option<Once<u64, u64>> {
        let Step::Marked {
            first,
            updated,
            done,
        } = step
        else {
            return Some(Once::Mismatch);
        };
        self.began_here |= first;
        match (done, self.began_here) {
            (true, true) => Some(Once::New(updated)),
            (true, false) => Some(Once::Before(updated)),
            (false, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(first: bool, updated: u64, done: bool) -> Step {
        Step::Marked {
            first,
            updated,
            done,
        }
    }

    #[test]
    fn only_the_request_that_began_it_gets_a_new_answer() {
        let mut began = ReadAll::default();
        assert!(began.after(step(true, 500, false)).is_none());
        let answer = began.after(step(false, 700, true));
        assert!(matches!(answer, Some(Once::New(700))));
        let answer = ReadAll::default().after(step(false, 700, true));
        assert!(matches!(answer, Some(Once::Before(700))));
    }

    #[test]
    fn another_body_is_a_mismatch() {
        let answer = ReadAll::default().after(Step::DifferentBody);
        assert!(matches!(answer, Some(Once::Mismatch)));
    }
}
