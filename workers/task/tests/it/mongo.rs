//! MongoDB as a `TaskStore`: the conformance suite, and what only this adapter promises.

use bson::{Document, doc};
use shared::testing::shared_mongodb;
use task_worker::store::mongo::MongoTaskStore;
use task_worker::store::{TaskStore, Written};

use crate::conformance::{insert, new, retitled, task_store_conformance};
use crate::support;

async fn fresh() -> MongoTaskStore {
    let mongo = shared_mongodb().await;
    let store = support::store(&mongo.url(), &mongo.fresh_database()).await;
    store.prepare().await.unwrap();
    store
}

task_store_conformance!(fresh);

#[tokio::test]
async fn a_task_with_too_many_unpublished_events_takes_no_more_until_they_are_published() {
    let store = fresh().await.with_max_document_bytes(20_000);
    let mut task = insert(&store, "owner", new("x"), 0).await;
    let full = loop {
        let (next, event) = retitled(&task, &task.version.to_string(), 1);
        match store.update(&next, &event).await.unwrap() {
            Written::Done(_) => task = next,
            other => break other,
        }
    };
    assert_eq!(full, Written::Full);
    assert!(task.version > 3);

    use shared::outbox::Outbox;
    let pending = store.pending(jiff::Timestamp::MAX, 1_000).await.unwrap();
    assert_eq!(pending.len() as u64, task.version);
    store.mark_published(&pending).await.unwrap();
    let (next, event) = retitled(&task, "y", 1);
    assert!(matches!(
        store.update(&next, &event).await.unwrap(),
        Written::Done(_)
    ));
}

#[tokio::test]
async fn a_hint_is_small_however_much_waits() {
    let store = fresh().await;
    let mut task = insert(&store, "owner", new("x"), 0).await;
    let mut hinted = Vec::new();
    for n in 2..=10 {
        let (next, event) = retitled(&task, &n.to_string(), 1);
        let Written::Done(pending) = store.update(&next, &event).await.unwrap() else {
            panic!()
        };
        hinted.push(pending.len());
        task = next;
    }
    // All that waits, or nothing: a part would skip a version.
    assert_eq!(hinted, [2, 3, 4, 5, 6, 7, 8, 0, 0]);
}

#[tokio::test]
async fn lists_the_outbox_and_the_purge_go_by_index() {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let store = support::store(&mongo.url(), &name).await;
    store.prepare().await.unwrap();
    insert(&store, "owner", new("x"), 0).await;
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&name);
    let outbox =
        doc! {"pending.0": {"$exists": true}, "pending.0.at": {"$lte": bson::DateTime::MAX}};
    for (filter, sort) in [
        (
            doc! {"members": "owner"},
            doc! {"created_at": -1, "_id": -1},
        ),
        (outbox, doc! {"pending.0.at": 1}),
        (
            doc! {
                "deleted_at": {"$lt": bson::DateTime::MAX, "$type": "date"},
                "pending.0": {"$exists": false},
            },
            doc! {},
        ),
    ] {
        let find = doc! {"find": "tasks", "filter": filter, "sort": sort};
        let plan = database.run_command(doc! {"explain": find, "verbosity": "queryPlanner"});
        let plan: Document = plan.await.unwrap();
        let plan = plan.get_document("queryPlanner").unwrap().to_string();
        assert!(plan.contains("IXSCAN"), "{plan}");
        assert!(!plan.contains("\"stage\": \"SORT\""), "{plan}");
    }
}
