//! Where each user's numbering was left off, as this worker knows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::id::UserId;
use notifications::domain::Event;

/// Users whose numbering is remembered; beyond that it is read again.
const MAX_REMEMBERED: usize = 10_000;

/// Where the numbering of users stood when we last moved it.
pub(super) type Numbering = HashMap<UserId, i64>;

/// Kept between batches. A batch takes its users out and puts them back when it is committed: so what
/// fails, however, is forgotten.
#[derive(Clone, Default)]
pub(super) struct Remembered(Arc<Mutex<Numbering>>);

impl Remembered {
    pub(super) fn take(&self, events: &[Event]) -> Numbering {
        let mut remembered = self.lock();
        let mut taken = Numbering::new();
        for event in events {
            if let Event::Task(entry) = event {
                let users = entry.notices.iter().map(|notice| &notice.user_id);
                taken.extend(users.filter_map(|user| remembered.remove_entry(user)));
            }
        }
        taken
    }

    pub(super) fn put(&self, numbering: Numbering) {
        let mut remembered = self.lock();
        if remembered.len() + numbering.len() > MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.extend(numbering);
    }

    fn lock(&self) -> MutexGuard<'_, Numbering> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
