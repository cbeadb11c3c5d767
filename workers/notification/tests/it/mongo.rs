//! What only the MongoDB store promises: the order in which two transactions commit, and the cost of a
//! page.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use contract::id::UserId;
use contract::page::PageRequest;
use futures_util::TryStreamExt;
use mongodb::{ClientSession, Database};
use notifications::domain::{Event, Kind};
use notifications::store::{Cursor, Expected, Filter, NotificationStore, Outcome};
use testkit::eventually;

use crate::fixture::{Fixture, SOON, Task};

/// Opens a transaction on a user's counter, as another worker would.
async fn open(database: &Database, user: &UserId, change: Document) -> ClientSession {
    let client = database.client();
    let mut session = client.start_session().await.expect("the store is there");
    database
        .run_command(doc! {"profile": 2})
        .await
        .expect("it is ours");
    session.start_transaction().await.expect("it is the first");
    database
        .collection::<Document>("counters")
        .update_one(doc! {"_id": user.as_str()}, change)
        .session(&mut session)
        .await
        .expect("nobody else has the counter");
    session
}

/// A task of two users, each of whom has one notification.
async fn scene() -> (Fixture, Arc<dyn NotificationStore>, Task, UserId, UserId) {
    let fixture = Fixture::new().await;
    let store = fixture.store().await;
    let mut task = Task::new();
    let reader = UserId::new();
    task.assignee = Some(reader.clone());
    task.actor = UserId::new();
    let applied = store.apply(&[task.store_event(1)], task.born).await;
    applied.expect("the store is there");
    let leaver = task.owner.clone();
    (fixture, store, task, leaver, reader)
}

/// Waits until a transaction had a write conflict with the open one.
async fn conflicted(database: &Database) {
    let profile = database.collection::<Document>("system.profile");
    eventually(SOON, async || {
        let found = profile.find_one(doc! {"errCode": 112}).await;
        found.is_ok_and(|found| found.is_some())
    })
    .await;
}

async fn count_left(store: &Arc<dyn NotificationStore>, user: &UserId) -> usize {
    while store.forget(500).await.expect("the store is there") {}
    let left = store.since(user, 0, 100).await;
    left.expect("the store is there").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_meets_an_open_event_waits_for_it_and_removes_what_it_told() {
    let (fixture, store, task, leaver, reader) = scene().await;
    let database = fixture.database().await;
    let notifications = database.collection::<Document>("notifications");
    let change = doc! {"$inc": {"sequence": 1_i64, "unread": 1_i64}};
    let mut event = open(&database, &leaver, change).await;
    let this = doc! {"user_id": leaver.as_str()};
    let mut another = notifications.find_one(this).await.unwrap().unwrap();
    another.insert("_id", "another");
    another.insert("sequence", 2_i64);
    let insertion = notifications.insert_one(another);
    insertion.session(&mut event).await.unwrap();

    let deleting = {
        let (store, leaver) = (store.clone(), leaver.clone());
        let gone = [Event::UserDeleted(leaver)];
        tokio::spawn(async move { store.apply(&gone, task.born).await.unwrap() })
    };
    conflicted(&database).await;
    assert!(!deleting.is_finished());
    event.commit_transaction().await.unwrap();
    assert_eq!(deleting.await.unwrap(), [Outcome::Applied]);
    assert_eq!(count_left(&store, &leaver).await, 0);
    assert_eq!(store.counter(&leaver).await.unwrap().unread, 0);
    assert_eq!(count_left(&store, &reader).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_meets_an_open_deletion_waits_for_it_and_tells_only_others() {
    let (fixture, store, task, leaver, reader) = scene().await;
    let database = fixture.database().await;
    let tombstone =
        doc! {"unread": 0_i64, "deleted_at": bson::DateTime::now(), "forgetting": 0_i64};
    let mut deletion = open(&database, &leaver, doc! {"$set": tombstone}).await;

    let applying = {
        let store = store.clone();
        let events = [task.store_event(2), Task::of(&reader).store_event(1)];
        tokio::spawn(async move { store.apply(&events, task.born).await.unwrap() })
    };
    conflicted(&database).await;
    assert!(!applying.is_finished());
    deletion.commit_transaction().await.unwrap();
    assert_eq!(applying.await.unwrap(), [Outcome::Applied; 2]);
    assert_eq!(count_left(&store, &leaver).await, 0);
    let left = store.counter(&leaver).await.unwrap();
    assert_eq!((left.unread, left.deleted), (0, true));
    assert_eq!(count_left(&store, &reader).await, 3);
}

#[tokio::test]
async fn who_has_an_unreadable_counter_is_forgotten_and_keeps_nobody_else_from_it() {
    let (fixture, store, task, leaver, _) = scene().await;
    let broken = UserId::new();
    fixture.break_counter(&broken).await;
    let gone = [broken, leaver.clone()].map(Event::UserDeleted);
    let outcomes = store.apply(&gone, task.born).await.unwrap();
    assert_eq!(outcomes, [Outcome::Applied; 2]);
    assert_eq!(count_left(&store, &leaver).await, 0);
}

#[tokio::test]
async fn a_page_costs_the_same_at_any_depth_and_whatever_does_not_match() {
    const ALL: u64 = 3_000;
    const LIMIT: usize = 20;
    let fixture = Fixture::new().await;
    let (store, database) = (fixture.store().await, fixture.database().await);
    let owner = UserId::new();
    // The oldest is the only `task.created`, and the only one that is unread.
    let task = Task::of(&owner);
    for part in (1..=ALL).collect::<Vec<_>>().chunks(500) {
        let events: Vec<_> = part
            .iter()
            .map(|version| task.store_event(*version))
            .collect();
        store.apply(&events, task.born).await.unwrap();
    }
    store.set_all_read(&owner, None, task.born).await.unwrap();
    let oldest = store
        .since(&owner, 0, 1)
        .await
        .unwrap()
        .remove(0)
        .content
        .id;
    store
        .set_read(&owner, &oldest, false, Expected::ANY)
        .await
        .unwrap();
    database.run_command(doc! {"profile": 2}).await.unwrap();

    // First, lists of users with few notifications: the server could cache a plan that suits only them.
    let filters: Vec<_> = [None, Some(true), Some(false)]
        .into_iter()
        .flat_map(|read| {
            [None, Some(Kind::Created), Some(Kind::Updated)].map(|kind| Filter { read, kind })
        })
        .collect();
    let somewhere = |version: u64| Cursor {
        created_at: task.born + jiff::SignedDuration::from_millis(version.cast_signed()),
        id: "~".to_owned(),
    };
    for n in 0..4 {
        let small = Task::new();
        let events: Vec<_> = (1..=n).map(|version| small.store_event(version)).collect();
        store.apply(&events, small.born).await.unwrap();
        for filter in &filters {
            for after in [None, Some(somewhere(ALL))] {
                let page = PageRequest { limit: 20, after };
                store.list(&small.owner, *filter, &page).await.unwrap();
            }
        }
    }
    for filter in &filters {
        for after in [None, Some(ALL / 2), Some(30)] {
            let page = PageRequest {
                limit: LIMIT,
                after: after.map(somewhere),
            };
            store.list(&owner, *filter, &page).await.unwrap();
        }
    }
    store.since(&owner, ALL / 2, LIMIT).await.unwrap();

    let profile = database.collection::<Document>("system.profile");
    let finds = doc! {"op": "query", "command.find": "notifications"};
    let finds: Vec<_> = profile
        .find(finds)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(finds.len(), 4 * 2 * filters.len() + 3 * filters.len() + 1);
    for find in &finds {
        let number = |name| find.get(name).and_then(Bson::as_i32).unwrap_or_default();
        let (keys, documents) = (number("keysExamined"), number("docsExamined"));
        // One more item shows that there is a next page. Each combination of `read` and `type` may cost
        // one more key, at its end.
        let page = LIMIT as i32 + 1;
        assert!(documents <= page && keys <= page + 6, "{find}");
        for sign in ["hasSortStage", "replanned"] {
            assert!(!find.contains_key(sign), "{find}");
        }
    }
}

/// The task versions of a user's notifications, by sequence number. The numbers must have no gap.
async fn versions(store: &Arc<dyn NotificationStore>, user: &UserId) -> Vec<u64> {
    let found = store.since(user, 0, 100).await.expect("the store is there");
    let numbers: Vec<u64> = found.iter().map(|found| found.sequence).collect();
    assert!(
        numbers.iter().copied().eq(1..=found.len() as u64),
        "{numbers:?}"
    );
    found
        .iter()
        .map(|found| found.content.task_version)
        .collect()
}

#[tokio::test]
async fn a_batch_for_users_who_were_told_before_is_applied_without_a_question() {
    let (fixture, store, task, _, reader) = scene().await;
    let database = fixture.database().await;
    database.run_command(doc! {"profile": 2}).await.unwrap();
    let applied = store
        .apply(&[task.store_event(2)], task.born)
        .await
        .unwrap();
    assert_eq!(applied, [Outcome::Applied]);
    let profile = database.collection::<Document>("system.profile");
    let commands = profile
        .distinct("op", doc! {"op": {"$ne": "getmore"}})
        .await
        .unwrap();
    assert!(!commands.contains(&Bson::from("query")), "{commands:?}");
    assert!(commands.contains(&Bson::from("insert")), "{commands:?}");
    assert_eq!(versions(&store, &reader).await, [1, 2]);
}

#[tokio::test]
async fn what_another_worker_told_meanwhile_is_numbered_before_ours_and_told_once() {
    let (fixture, store, task, _, reader) = scene().await;
    let other = fixture.store().await;
    let applied = other
        .apply(&[task.store_event(2)], task.born)
        .await
        .unwrap();
    assert_eq!(applied, [Outcome::Applied]);
    let applied = store
        .apply(&[task.store_event(3)], task.born)
        .await
        .unwrap();
    assert_eq!(
        applied,
        [Outcome::Applied],
        "another worker had assigned the next number"
    );
    let both = [
        task.store_event(3),
        task.store_event(2),
        task.store_event(4),
    ];
    let applied = store.apply(&both, task.born).await.unwrap();
    let expected = [Outcome::Duplicate, Outcome::Duplicate, Outcome::Applied];
    assert_eq!(applied, expected);
    assert_eq!(versions(&store, &reader).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn who_was_told_before_and_is_deleted_in_the_batch_that_tells_more_is_told_no_more() {
    let (_fixture, store, task, leaver, reader) = scene().await;
    let batch = [task.store_event(2), Event::UserDeleted(leaver.clone())];
    let applied = store.apply(&batch, task.born).await.unwrap();
    assert_eq!(applied, [Outcome::Applied; 2]);
    assert_eq!(count_left(&store, &leaver).await, 0);
    assert_eq!(versions(&store, &reader).await, [1, 2]);
}
