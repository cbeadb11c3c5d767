//! Checks whether more requests than the limit allows were admitted within any window of time.
//!
//! The gateway decides at some time between the sending of a request and its answer. So only requests
//! that were both sent and answered within a window certainly belong to it, and only they count.

/// A request that was admitted; times in microseconds of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
}

/// The largest number of requests beyond burst + rate·t in any window that begins at `from` or later.
/// Negative if every window stayed below that. O(n log n).
pub(crate) fn excess(admitted: &[Admitted], per_minute: u64, burst: u64, from: u64) -> f64 {
    let mut by_answer: Vec<Admitted> = admitted
        .iter()
        .copied()
        .filter(|request| request.sent >= from)
        .collect();
    let mut sent: Vec<u64> = by_answer.iter().map(|request| request.sent).collect();
    sent.sort_unstable();
    by_answer.sort_unstable_by_key(|request| request.answered);
    // For the window that begins with each sending: its requests so far + rate · the time it begins.
    let micro = |tokens: u64| i128::from(tokens) * 1_000_000;
    let flow = |at: u64| i128::from(per_minute) * i128::from(at) / 60;
    let mut windows = Maxima::new(sent.iter().map(|at| flow(*at)).collect());
    let mut most = i128::MIN;
    for request in by_answer {
        let started = sent.partition_point(|at| *at <= request.sent);
        windows.add(started, micro(1));
        let open = sent.partition_point(|at| *at <= request.answered);
        most = most.max(windows.max(open) - flow(request.answered));
    }
    match most {
        i128::MIN => -(burst as f64),
        most => (most - micro(burst)) as f64 / 1e6,
    }
}

/// A segment tree over values: adds to the first n of them, and finds the maximum of the first n.
struct Maxima {
    leaves: usize,
    /// For each node: the maximum below it, without what is pending at its ancestors.
    max: Vec<i128>,
    /// For each node: what was added to all values below it, but not to its children.
    pending: Vec<i128>,
}

impl Maxima {
    fn new(values: Vec<i128>) -> Self {
        let leaves = values.len().next_power_of_two().max(1);
        let mut max = vec![i128::MIN / 4; 2 * leaves];
        max[leaves..leaves + values.len()].copy_from_slice(&values);
        for node in (1..leaves).rev() {
            max[node] = max[2 * node].max(max[2 * node + 1]);
        }
        let pending = vec![0; 2 * leaves];
        Self {
            leaves,
            max,
            pending,
        }
    }

    /// Adds to the first `count` values.
    fn add(&mut self, count: usize, value: i128) {
        self.add_below(1, 0, self.leaves, count, value);
    }

    fn add_below(&mut self, node: usize, first: usize, size: usize, count: usize, value: i128) {
        if first >= count {
            return;
        }
        if first + size <= count {
            self.max[node] += value;
            self.pending[node] += value;
            return;
        }
        self.add_below(2 * node, first, size / 2, count, value);
        self.add_below(2 * node + 1, first + size / 2, size / 2, count, value);
        self.max[node] = self.max[2 * node].max(self.max[2 * node + 1]) + self.pending[node];
    }

    /// The maximum of the first `count` values.
    fn max(&self, count: usize) -> i128 {
        self.max_below(1, 0, self.leaves, count)
    }

    fn max_below(&self, node: usize, first: usize, size: usize, count: usize) -> i128 {
        if first >= count {
            return i128::MIN / 2;
        }
        if first + size <= count {
            return self.max[node];
        }
        let left = self.max_below(2 * node, first, size / 2, count);
        let right = self.max_below(2 * node + 1, first + size / 2, size / 2, count);
        left.max(right) + self.pending[node]
    }
}

mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_worst_window_is_the_one_that_trying_all_of_them_finds(
            requests in prop::collection::vec((0u64..3_000_000, 0u64..400_000), 1..60),
            rate in 1u64..200,
            burst in 1u64..20,
            from in 0u64..1_000_000,
        ) {
            let admitted: Vec<Admitted> = requests
                .iter()
                .map(|&(sent, took)| Admitted { sent, answered: sent + took })
                .filter(|request| request.sent >= from)
                .collect();
            let mut most = f64::MIN;
            for first in &admitted {
                for last in admitted.iter().filter(|request| request.answered >= first.sent) {
                    let within = |other: &&Admitted| {
                        other.sent >= first.sent && other.answered <= last.answered
                    };
                    let count = admitted.iter().filter(within).count() as f64;
                    let window = (last.answered - first.sent) as f64 / 1e6;
                    most = most.max(count - burst as f64 - rate as f64 * window);
                }
            }
            let found = excess(&admitted, rate * 60, burst, from);
            prop_assert!(most == f64::MIN || (found - most).abs() < 1e-5, "{} and {}", found, most);
        }
    }
}
