//! The last sequence numbers that this worker assigned, so that it need not read them for the next
//! batch. They may be outdated: whoever applies a batch on them must let the store check them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::id::UserId;
use notifications::domain::Event;

/// How many users are remembered. Beyond that, all are forgotten and read again.
const MAX_REMEMBERED: usize = 10_000;

/// Each user's last sequence number, as of our last write.
pub(super) type Sequences = HashMap<UserId, i64>;

/// Kept between batches. A batch takes its users out and puts them back after its commit, so the users
/// of a failed batch are forgotten.
#[derive(Clone, Default)]
pub(super) struct RememberedSequences(Arc<Mutex<Sequences>>);

impl RememberedSequences {
    pub(super) fn take(&self, events: &[Event]) -> Sequences {
        let mut remembered = self.lock();
        let mut taken = Sequences::new();
        for event in events {
            if let Event::Task(task) = event {
                let users = task.notifications.iter().map(|content| &content.user_id);
                taken.extend(users.filter_map(|user| remembered.remove_entry(user)));
            }
        }
        taken
    }

    pub(super) fn put(&self, sequences: Sequences) {
        let mut remembered = self.lock();
        if remembered.len() + sequences.len() > MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.extend(sequences);
    }

    fn lock(&self) -> MutexGuard<'_, Sequences> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
