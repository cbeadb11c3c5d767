use contract::event::{Envelope, EventType};
use contract::page::PageRequest;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use stores::StoreError;
use tempfile::TempDir;

use super::*;

const SCHEMA: &str = "CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT";

fn open(folder: &TempDir) -> Database {
    Database::open(&folder.path().join("test.db"), &[SCHEMA, outbox::SCHEMA]).unwrap()
}

async fn insert(database: &Database, n: i64) -> Result<(), StoreError> {
    database
        .write("insert", move |connection| {
            connection.execute("INSERT INTO numbers VALUES (?1)", [n])?;
            Ok(())
        })
        .await
}

async fn count(database: &Database) -> i64 {
    database
        .read("count", |connection| {
            connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
        })
        .await
        .unwrap()
}

fn event(subject: &str, version: u64, at: i64) -> Envelope {
    let at = Timestamp::from_millisecond(at).unwrap();
    Envelope::new(
        "/test",
        EventType::TaskCreated,
        subject,
        version,
        at,
        json!({}),
    )
}

async fn add(database: &Database, subject: &str, version: u64, at: i64) {
    let event = event(subject, version, at);
    database
        .write("add", move |connection| {
            outbox::add(connection, version, &event)
        })
        .await
        .unwrap();
}

async fn pending_ids(database: &Database, until: i64) -> Vec<String> {
    let until = Timestamp::from_millisecond(until).unwrap();
    let pending = database.pending(until, 100).await.unwrap();
    pending
        .into_iter()
        .map(|pending| pending.event.id)
        .collect()
}

#[tokio::test]
async fn what_a_write_has_answered_is_seen_by_every_later_read() {
    let folder = TempDir::new().unwrap();
    let database = open(&folder);
    let writes = join_all((0..500).map(|n| insert(&database, n))).await;
    assert!(writes.into_iter().all(|write| write.is_ok()));
    assert_eq!(count(&database).await, 500);
    drop(database);
    assert_eq!(count(&open(&folder)).await, 500);
}

#[tokio::test]
async fn a_job_that_fails_or_panics_takes_back_its_own_changes_only() {
    let folder = TempDir::new().unwrap();
    let database = open(&folder);
    let failing = database.write("fail", |connection| {
        connection.execute("INSERT INTO numbers VALUES (100)", [])?;
        connection.execute("INSERT INTO numbers VALUES (100)", [])?;
        Ok(())
    });
    let panicking = database.write("panic", |connection| {
        connection.execute("INSERT INTO numbers VALUES (200)", [])?;
        if count_now(connection)? > 0 {
            panic!("on purpose");
        }
        Ok(())
    });
    let (first, failed, panicked, last) = tokio::join!(
        insert(&database, 1),
        failing,
        panicking,
        insert(&database, 2)
    );
    assert!(first.is_ok() && last.is_ok());
    assert!(matches!(failed, Err(StoreError::Corrupt { .. })));
    assert!(matches!(panicked, Err(StoreError::Corrupt { .. })));
    assert_eq!(count(&database).await, 2);
}

fn count_now(connection: &rusqlite::Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
}

#[tokio::test]
async fn a_full_disk_is_unavailable_until_there_is_room_again() {
    let folder = TempDir::new().unwrap();
    let database = open(&folder);
    let pages = |pages: &'static str| {
        database.write("limit", move |connection| {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        })
    };
    let fill = || {
        database.write("fill", |connection| {
            connection.execute("CREATE TABLE big AS SELECT randomblob(1000000) AS b", [])?;
            Ok(())
        })
    };
    pages("20").await.unwrap();
    let full = fill().await.unwrap_err();
    assert!(matches!(full, StoreError::Unavailable { .. }), "{full:?}");
    assert!(runtime::error::chain(&full).contains("full"), "{full:?}");
    insert(&database, 1).await.unwrap();
    pages("100000").await.unwrap();
    fill().await.unwrap();
    database.ping().await.unwrap();
    assert_eq!(count(&database).await, 1);
}

#[tokio::test]
async fn a_query_without_end_is_interrupted() {
    let folder = TempDir::new().unwrap();
    let database = open(&folder);
    let endless = database.read("count to infinity", |connection| {
        connection.query_row(
            "WITH RECURSIVE up(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM up) SELECT count(*) FROM up",
            [],
            |row| row.get::<_, i64>(0),
        )
    });
    let ended = endless.await.unwrap_err();
    assert!(matches!(ended, StoreError::Unavailable { .. }), "{ended:?}");
    assert_eq!(count(&database).await, 0);
}

#[tokio::test]
async fn a_read_cannot_write() {
    let folder = TempDir::new().unwrap();
    let database = open(&folder);
    let wrote = database.read("write", |connection| {
        connection.execute("INSERT INTO numbers VALUES (1)", [])
    });
    assert!(wrote.await.is_err());
}

#[tokio::test]
async fn each_migration_happens_once_and_a_newer_file_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("test.db");
    drop(Database::open(&path, &[SCHEMA]).unwrap());
    insert(&open(&folder), 1).await.unwrap();
    assert_eq!(count(&open(&folder)).await, 1);
    let newer = Database::open(&path, &[SCHEMA]).err().unwrap().to_string();
    assert!(
        newer.contains("test.db") && newer.contains("newer"),
        "{newer}"
    );
    assert!(
        newer.contains("is 2") && newer.contains("knows 1"),
        "{newer}"
    );
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("test.db");
    std::fs::write(
        &path,
        "not a database, but long enough to look at".repeat(100),
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(Database::open(&path, &[SCHEMA]).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn events_wait_oldest_subject_first_until_they_are_marked() {
    let folder = TempDir::new().unwrap();
    let database = open(&folder);
    add(&database, "a", 1, 10).await;
    add(&database, "b", 1, 20).await;
    add(&database, "a", 2, 30).await;
    assert_eq!(pending_ids(&database, 100).await, ["a:1", "a:2", "b:1"]);
    assert_eq!(pending_ids(&database, 10).await, ["a:1", "a:2"]);
    let backlog = database.backlog().await.unwrap();
    assert_eq!(backlog.subjects, 2);
    assert_eq!(backlog.oldest.unwrap().as_millisecond(), 10);

    let first = database.pending(Timestamp::MAX, 1).await.unwrap();
    database.mark_published(&first).await.unwrap();
    database.mark_published(&first).await.unwrap();
    assert_eq!(pending_ids(&database, 100).await, ["b:1", "a:2"]);
    let page = PageRequest {
        limit: 10,
        after: Some(0),
    };
    assert_eq!(database.history("a", &page).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn no_event_overtakes_the_one_before_it_though_the_clock_was_set_back() {
    let folder = TempDir::new().unwrap();
    let database = open(&folder);
    add(&database, "a", 1, 500).await;
    add(&database, "a", 2, 10).await;
    add(&database, "b", 1, 10).await;
    assert_eq!(pending_ids(&database, 100).await, ["b:1"]);
    assert_eq!(pending_ids(&database, 500).await, ["b:1", "a:1", "a:2"]);
}
