//! SQLite as a `TaskStore`: the conformance suite, and what only this adapter promises.

use events::outbox::Outbox;
use jiff::Timestamp;
use tasks::store::{TaskStore, WriteOutcome};
use tasks_sqlite::SqliteTaskStore;
use tempfile::TempDir;

use crate::conformance::{insert, new, retitled, task_store_conformance};

fn open(folder: &TempDir) -> SqliteTaskStore {
    SqliteTaskStore::open(&folder.path().join("tasks.db")).unwrap()
}

/// The folder is deleted at once; the open file lasts until the store is dropped.
async fn fresh() -> SqliteTaskStore {
    open(&TempDir::new().unwrap())
}

task_store_conformance!(fresh);

#[tokio::test]
async fn what_was_answered_is_there_when_the_file_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let first = insert(&store, "owner", new("x"), 0).await;
    let (second, event) = retitled(&first, "y", 1);
    store.update(&second, &event).await.unwrap();
    let pending = store.pending(Timestamp::MAX, 10).await.unwrap();
    drop(store);

    let store = open(&folder);
    assert_eq!(store.get(&first.id).await.unwrap(), Some(second));
    assert_eq!(store.pending(Timestamp::MAX, 10).await.unwrap(), pending);
    assert_eq!(pending.len(), 2);
}

#[tokio::test]
async fn a_task_takes_so_many_unpublished_events_and_no_more_until_some_are_published() {
    let store = fresh().await.with_max_pending_bytes(4_000);
    let mut task = insert(&store, "owner", new("x"), 0).await;
    let mut full = false;
    for ms in 1..100 {
        let (next, event) = retitled(&task, &ms.to_string(), ms);
        match store.update(&next, &event).await.unwrap() {
            WriteOutcome::Done(_) => task = next,
            WriteOutcome::Full => {
                full = true;
                break;
            }
            WriteOutcome::Stale => panic!("nobody else writes"),
        }
    }
    assert!(full && task.version > 2);
    assert_eq!(store.get(&task.id).await.unwrap(), Some(task.clone()));
    let pending = store.pending(Timestamp::MAX, 100).await.unwrap();
    assert_eq!(pending.len() as u64, task.version);
    store.mark_published(&pending).await.unwrap();
    let (next, event) = retitled(&task, "again", 100);
    let written = store.update(&next, &event).await.unwrap();
    assert!(matches!(written, WriteOutcome::Done(_)), "{written:?}");
}
