//! Work that several ask for at once and that is done once. What is under way is known to this
//! process only; nothing is remembered.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// Work under way, by what it is for.
pub(crate) struct Flights<K, V>(Mutex<HashMap<K, Weak<OnceCell<V>>>>);

impl<K: Hash + Eq, V: Clone> Flights<K, V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Does the work, or waits for whoever does it. When they give up, the next one does it.
    pub(crate) async fn join<W: Future<Output = V>>(&self, key: K, work: impl FnOnce() -> W) -> V {
        let cell = self.cell(key);
        cell.get_or_init(work).await.clone()
    }

    fn cell(&self, key: K) -> Arc<OnceCell<V>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What has landed goes, so there are never more than requests under way, and one.
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(cell) = flights.get(&key).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::new(OnceCell::new());
        flights.insert(key, Arc::downgrade(&cell));
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn what_is_asked_for_at_once_is_done_once_and_later_again() {
        let (flights, done) = (Flights::new(), AtomicUsize::new(0));
        let work = || async {
            tokio::task::yield_now().await;
            done.fetch_add(1, Ordering::Relaxed)
        };
        let all = join_all((0..50).map(|_| flights.join("a", work))).await;
        assert_eq!(all, [0; 50]);
        assert_eq!(flights.join("a", work).await, 1);
        assert_eq!(flights.join("b", work).await, 2);
        assert_eq!(flights.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_work_to_the_next() {
        let flights = Flights::new();
        let mut first = Box::pin(flights.join("a", std::future::pending));
        assert!(futures_util::poll!(&mut first).is_pending());
        let second = flights.join("a", || std::future::ready(7));
        drop(first);
        assert_eq!(second.await, 7);
    }
}
