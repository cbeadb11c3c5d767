//! Permits of searches.
//!
//! The filters of a list have no index of their own, so one page may read all tasks of its user.
//! [`SearchPermits`] bounds how many such queries run at once, in all and per user. It never runs a
//! query and holds no connection: the store adapters acquire a permit before they send one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use contract::id::UserId;
use runtime::error::BoxError;
use stores::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Searches of one user, both running and waiting.
const MAX_SEARCHES_OF_A_USER: usize = 16;
const OPERATION: &str = "search tasks";

pub struct SearchPermits {
    all: Arc<Semaphore>,
    per_user: usize,
    /// Users who search or wait. Each running or waiting search keeps its user's semaphore alive.
    users: Mutex<HashMap<UserId, Weak<Semaphore>>>,
}

/// The right to run one search; dropping it gives it back. The running query must hold it, not the
/// caller who waits for the result: the caller may go away first.
pub struct SearchPermit {
    _of_all: OwnedSemaphorePermit,
    _of_user: OwnedSemaphorePermit,
}

impl SearchPermits {
    /// At most `total` searches run at once, and at most `per_user` of them for one user.
    pub fn new(total: usize, per_user: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(total)),
            per_user,
            users: Mutex::default(),
        }
    }

    /// Waits for a permit until `end`. Fails at once when the user has too many searches already.
    pub async fn acquire(&self, user: &UserId, end: Instant) -> Result<SearchPermit, StoreError> {
        let of_user = self.of_user(user)?;
        let permit = async {
            // The user's permit first: searches that wait behind their own user's keep no permit
            // from other users.
            let _of_user = of_user.acquire_owned().await?;
            let _of_all = Arc::clone(&self.all).acquire_owned().await?;
            Ok(SearchPermit { _of_all, _of_user })
        };
        timeout_at(end, permit)
            .await
            .map_err(BoxError::from)
            .flatten()
            .map_err(|why| StoreError::unavailable(OPERATION, why))
    }

    fn of_user(&self, user: &UserId) -> Result<Arc<Semaphore>, StoreError> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // The map holds at most one entry per search, and searches are requests in flight.
        users.retain(|_, permits| permits.strong_count() > 0);
        let known = users.get(user);
        // Each running or waiting search holds one reference.
        if known.is_some_and(|permits| permits.strong_count() >= MAX_SEARCHES_OF_A_USER) {
            let why = "the user has too many searches under way";
            return Err(StoreError::unavailable(OPERATION, why));
        }
        if let Some(permits) = known.and_then(Weak::upgrade) {
            return Ok(permits);
        }
        let permits = Arc::new(Semaphore::new(self.per_user));
        users.insert(user.clone(), Arc::downgrade(&permits));
        Ok(permits)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn permits() -> SearchPermits {
        SearchPermits::new(8, 2)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    /// A permit, if one is free right now.
    fn now(permits: &SearchPermits, name: &str) -> Option<SearchPermit> {
        let permit = permits.acquire(&user(name), later()).now_or_never();
        permit.map(Result::unwrap)
    }

    #[tokio::test]
    async fn one_user_leaves_turns_to_others_and_all_have_no_more_than_there_are() {
        let permits = permits();
        let mut held = Vec::new();
        for name in ["ann", "bob", "eve", "joe"] {
            held.extend([now(&permits, name).unwrap(), now(&permits, name).unwrap()]);
            assert!(now(&permits, name).is_none());
        }
        assert!(now(&permits, "zoe").is_none());
        drop(held.pop());
        assert!(now(&permits, "ann").is_none());
        assert!(now(&permits, "zoe").is_some());
    }

    #[tokio::test]
    async fn a_user_who_waits_too_often_is_refused_at_once_and_then_forgotten() {
        let permits = permits();
        let ann = user("ann");
        let mut all: Vec<_> = (0..MAX_SEARCHES_OF_A_USER)
            .map(|_| permits.acquire(&ann, later()).boxed())
            .collect();
        let mut held = Vec::new();
        for one in &mut all {
            if let Poll::Ready(permit) = futures_util::poll!(one) {
                held.push(permit.unwrap());
            }
        }
        assert_eq!(held.len(), 2);
        let refused = permits.acquire(&ann, later()).now_or_never();
        assert!(refused.unwrap().is_err());
        assert!(now(&permits, "bob").is_some());

        drop((all, held));
        assert!(now(&permits, "ann").is_some());
        assert_eq!(permits.users.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nobody_waits_beyond_the_deadline() {
        let permits = permits();
        let _held = (now(&permits, "ann"), now(&permits, "ann"));
        assert!(permits.acquire(&user("ann"), Instant::now()).await.is_err());
    }
}
