//! Turns to search. What a list filters by has no index of its own, so one page may read all tasks of
//! its user: few do so at a time, and no user has every turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use contract::id::UserId;
use runtime::error::BoxError;
use stores::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Searches of one user, those included that wait for their turn.
const OF_A_USER: usize = 16;
const OPERATION: &str = "search tasks";

pub struct Turns {
    all: Arc<Semaphore>,
    at_once_a_user: usize,
    /// Users who search or wait: turns and waits keep the entry's semaphore alive.
    users: Mutex<HashMap<UserId, Weak<Semaphore>>>,
}

/// Given back when dropped: by whatever runs the query, not by whoever waits for it.
pub struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_user: OwnedSemaphorePermit,
}

impl Turns {
    /// So many searches at a time, and so many of them one user's.
    pub fn new(at_once: usize, at_once_a_user: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(at_once)),
            at_once_a_user,
            users: Mutex::default(),
        }
    }

    /// Waits until `end`, and not at all behind too many of the same user.
    pub async fn take(&self, user: &UserId, end: Instant) -> Result<Turn, StoreError> {
        let of_user = self.of_user(user)?;
        let turn = async {
            // The user's first: who waits behind oneself keeps no turn from others.
            let _of_user = of_user.acquire_owned().await?;
            let _of_all = Arc::clone(&self.all).acquire_owned().await?;
            Ok(Turn { _of_all, _of_user })
        };
        timeout_at(end, turn)
            .await
            .map_err(BoxError::from)
            .flatten()
            .map_err(|why| StoreError::unavailable(OPERATION, why))
    }

    fn of_user(&self, user: &UserId) -> Result<Arc<Semaphore>, StoreError> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as there are searches, which are requests under way.
        users.retain(|_, turns| turns.strong_count() > 0);
        let known = users.get(user);
        // Each turn and each wait has one.
        if known.is_some_and(|turns| turns.strong_count() >= OF_A_USER) {
            let why = "the user has too many searches under way";
            return Err(StoreError::unavailable(OPERATION, why));
        }
        if let Some(turns) = known.and_then(Weak::upgrade) {
            return Ok(turns);
        }
        let turns = Arc::new(Semaphore::new(self.at_once_a_user));
        users.insert(user.clone(), Arc::downgrade(&turns));
        Ok(turns)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn turns() -> Turns {
        Turns::new(8, 2)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    /// The turn, where one need not wait for it.
    fn now(turns: &Turns, name: &str) -> Option<Turn> {
        let turn = turns.take(&user(name), later()).now_or_never();
        turn.map(Result::unwrap)
    }

    #[tokio::test]
    async fn one_user_leaves_turns_to_others_and_all_have_no_more_than_there_are() {
        let turns = turns();
        let mut held = Vec::new();
        for name in ["ann", "bob", "eve", "joe"] {
            held.extend([now(&turns, name).unwrap(), now(&turns, name).unwrap()]);
            assert!(now(&turns, name).is_none());
        }
        assert!(now(&turns, "zoe").is_none());
        drop(held.pop());
        assert!(now(&turns, "ann").is_none());
        assert!(now(&turns, "zoe").is_some());
    }

    #[tokio::test]
    async fn a_user_who_waits_too_often_is_refused_at_once_and_then_forgotten() {
        let turns = turns();
        let ann = user("ann");
        let mut all: Vec<_> = (0..OF_A_USER)
            .map(|_| turns.take(&ann, later()).boxed())
            .collect();
        let mut held = Vec::new();
        for one in &mut all {
            if let Poll::Ready(turn) = futures_util::poll!(one) {
                held.push(turn.unwrap());
            }
        }
        assert_eq!(held.len(), 2);
        let refused = turns.take(&ann, later()).now_or_never();
        assert!(refused.unwrap().is_err());
        assert!(now(&turns, "bob").is_some());

        drop((all, held));
        assert!(now(&turns, "ann").is_some());
        assert_eq!(turns.users.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nobody_waits_beyond_the_deadline() {
        let turns = turns();
        let _held = (now(&turns, "ann"), now(&turns, "ann"));
        assert!(turns.take(&user("ann"), Instant::now()).await.is_err());
    }
}
