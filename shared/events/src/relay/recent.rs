//! The ids of the latest published events, up to a bound.

use std::collections::{HashSet, VecDeque};

/// Enough for all hints that can wait, with a few events each.
const MAX: usize = 8_192;

#[derive(Default)]
pub(super) struct Recent {
    ids: HashSet<String>,
    in_order: VecDeque<String>,
}

impl Recent {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Forgets the oldest ones beyond the bound.
    pub(super) fn extend<'a>(&mut self, ids: impl Iterator<Item = &'a String>) {
        for id in ids {
            if self.ids.insert(id.clone()) {
                self.in_order.push_back(id.clone());
            }
        }
        while self.in_order.len() > MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_and_the_oldest_forgotten() {
        let ids: Vec<String> = (0..MAX + 10).map(|n| n.to_string()).collect();
        let mut recent = Recent::default();
        recent.extend(ids.iter());
        recent.extend(ids.iter().skip(MAX));
        assert_eq!((recent.ids.len(), recent.in_order.len()), (MAX, MAX));
        assert!(!recent.contains("9") && recent.contains("10") && recent.contains(&ids[MAX + 9]));
    }
}
