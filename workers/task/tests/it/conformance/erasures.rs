//! Erasures: each is stored once, runs when it is due, and ends when a worker ends it.

use std::sync::Arc;

use events::consumer::Outcome;
use tasks::domain::Erasure;
use tasks::store::TaskStore;

use super::{at, user};

fn erasure(name: &str, ms: i64) -> Erasure {
    Erasure::new(user(name), at(ms))
}

pub(crate) async fn an_erasure_is_noted_once_and_left_alone_until_it_is_settled(
    store: impl TaskStore,
) {
    let (ann, bob) = (erasure("ann", 1), erasure("bob", 2));
    let outcomes = store.note(&[ann.clone(), bob.clone(), ann.clone()]).await;
    let wanted = [Outcome::Applied, Outcome::Applied, Outcome::Duplicate];
    assert_eq!(outcomes.unwrap(), wanted);
    store.reschedule(&ann, Some(at(5))).await.unwrap();
    let again = store.note(&[erasure("ann", 3)]).await.unwrap();
    assert_eq!(again, [Outcome::Duplicate]);
    let due_at = at(5);
    store.reschedule(&bob, None).await.unwrap();
    let found = store.due(at(9)).await.unwrap();
    assert_eq!(found, Some(Erasure { due_at, ..ann }));

    // An erasure that is over may be stored again, when its event is delivered again much later.
    assert_eq!(store.note(&[bob]).await.unwrap(), [Outcome::Applied]);
}

pub(crate) async fn of_parallel_notes_of_a_user_one_is_new(store: impl TaskStore) {
    let store = Arc::new(store);
    let notes = (0..16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.note(&[erasure("ann", n)]).await.unwrap()[0] })
    });
    let mut new = 0;
    for note in notes.collect::<Vec<_>>() {
        new += usize::from(note.await.unwrap() == Outcome::Applied);
    }
    assert_eq!(new, 1);
}

pub(crate) async fn the_erasure_that_has_been_due_for_longest_comes_first(store: impl TaskStore) {
    assert_eq!(store.due(at(9)).await.unwrap(), None);
    let (ann, bob) = (erasure("ann", 2), erasure("bob", 1));
    store.note(&[ann.clone(), bob.clone()]).await.unwrap();
    assert_eq!(store.due(at(0)).await.unwrap(), None);
    assert_eq!(store.due(at(1)).await.unwrap(), Some(bob.clone()));
    store.reschedule(&bob, Some(at(3))).await.unwrap();
    assert_eq!(store.due(at(9)).await.unwrap(), Some(ann.clone()));
    store.reschedule(&ann, None).await.unwrap();
    let last = store.due(at(9)).await.unwrap().unwrap();
    assert_eq!((last.user_id, last.since), (bob.user_id, bob.since));
}

pub(crate) async fn an_erasure_that_another_worker_settled_is_left_alone(store: impl TaskStore) {
    let ann = erasure("ann", 0);
    store.note(std::slice::from_ref(&ann)).await.unwrap();
    store.reschedule(&ann, Some(at(5))).await.unwrap();
    for late in [None, Some(at(7))] {
        store.reschedule(&ann, late).await.unwrap();
        assert_eq!(store.due(at(9)).await.unwrap().unwrap().due_at, at(5));
    }
}
