//! MongoDB as a `TaskStore`: the conformance suite, and what only this adapter promises.

use std::time::Duration;

use bson::{Document, doc};
use contract::page::{PageRequest, decode};
use events::outbox::Outbox;
use futures_util::{FutureExt, TryStreamExt};
use jiff::Timestamp;
use stores::idempotency::{Digest, Idempotency, Once};
use stores::{Store as _, StoreError};
use tasks::domain::{NewTask, Priority, Status, Task};
use tasks::store::{Filter, Sort, TaskStore, WriteOutcome};
use tasks_mongo::MongoTaskStore;
use testkit::{ChaosProxy, eventually, shared_mongodb};

use crate::conformance::{at, insert, new, retitled, task_store_conformance, user};
use crate::support;

async fn fresh() -> MongoTaskStore {
    let mongo = shared_mongodb().await;
    let store = support::store(&mongo.url(), &mongo.fresh_database()).await;
    store.prepare().await.unwrap();
    store
}

task_store_conformance!(fresh);

#[tokio::test]
async fn nothing_is_created_before_the_indexes_that_keep_keys_unique() {
    let mongo = shared_mongodb().await;
    let store = support::store(&mongo.url(), &mongo.fresh_database()).await;
    assert!(store.ping().await.is_err());
    let (task, event) = Task::create(user("owner"), new("x"), at(0));
    let refused = store.insert(&task, &event, None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }));
    store.prepare().await.unwrap();
    store.ping().await.unwrap();
    store.insert(&task, &event, None).await.unwrap();
}

fn key(name: &str) -> Idempotency {
    let key = Digest::of(name.as_bytes());
    Idempotency { key, body: key }
}

#[tokio::test]
async fn a_key_whose_first_write_is_under_way_is_waited_for() {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let store = support::store(&mongo.url(), &name).await;
    store.prepare().await.unwrap();
    let (first, event) = Task::create(user("owner"), new("first"), at(0));
    store.insert(&first, &event, Some(&key("k"))).await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let tasks = client.database(&name).collection::<Document>("tasks");
    let document = tasks.find_one_and_delete(doc! {}).await.unwrap().unwrap();

    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    tasks
        .insert_one(document)
        .session(&mut session)
        .await
        .unwrap();
    let second = tokio::spawn(async move {
        let (task, event) = Task::create(user("owner"), new("second"), at(1));
        store.insert(&task, &event, Some(&key("k"))).await.unwrap()
    });
    // It waits in the server for the transaction that has the key.
    eventually(Duration::from_secs(30), async || {
        let running = doc! {"currentOp": 1, "ns": format!("{name}.tasks"), "op": "insert"};
        let running = client.database("admin").run_command(running).await.unwrap();
        !running.get_array("inprog").unwrap().is_empty()
    })
    .await;
    session.commit_transaction().await.unwrap();
    assert_eq!(second.await.unwrap(), Once::Before(first));
}

#[tokio::test]
async fn an_insert_that_can_neither_succeed_nor_be_explained_is_in_flight() {
    let store = fresh().await;
    let (task, event) = Task::create(user("owner"), new("x"), at(0));
    store.insert(&task, &event, Some(&key("k"))).await.unwrap();
    // The same id: refused as a duplicate, although no task has this key.
    let other = store.insert(&task, &event, Some(&key("other"))).await;
    assert_eq!(other.unwrap(), Once::InFlight);
}

#[tokio::test]
async fn a_first_answer_that_is_lost_is_not_replaced_by_a_later_one() {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let store = support::store(&mongo.url(), &name).await;
    store.prepare().await.unwrap();
    let (task, event) = Task::create(user("owner"), new("first"), at(0));
    store.insert(&task, &event, Some(&key("k"))).await.unwrap();
    let (second, event) = retitled(&task, "second", 1);
    store.update(&second, &event).await.unwrap();
    let pending = store.pending(Timestamp::MAX, 10).await.unwrap();
    store.mark_published(&pending).await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let events = client.database(&name).collection::<Document>("task_events");
    events.delete_one(doc! {"version": 1}).await.unwrap();

    let (again, event) = Task::create(user("owner"), new("first"), at(2));
    let lost = store.insert(&again, &event, Some(&key("k"))).await;
    assert!(matches!(lost.unwrap_err(), StoreError::Corrupt { .. }));
}

#[tokio::test]
async fn a_task_with_too_many_unpublished_events_takes_no_more_until_they_are_published() {
    let store = fresh().await.with_max_document_bytes(20_000);
    let mut task = insert(&store, "owner", new("x"), 0).await;
    let full = loop {
        let (next, event) = retitled(&task, &task.version.to_string(), 1);
        match store.update(&next, &event).await.unwrap() {
            WriteOutcome::Done(_) => task = next,
            other => break other,
        }
    };
    assert_eq!(full, WriteOutcome::Full);
    assert!(task.version > 3);

    let pending = store.pending(Timestamp::MAX, 1_000).await.unwrap();
    assert_eq!(pending.len() as u64, task.version);
    store.mark_published(&pending).await.unwrap();
    let (next, event) = retitled(&task, "y", 1);
    assert!(matches!(
        store.update(&next, &event).await.unwrap(),
        WriteOutcome::Done(_)
    ));
}

#[tokio::test]
async fn a_hint_is_small_however_much_waits() {
    let store = fresh().await;
    let mut task = insert(&store, "owner", new("x"), 0).await;
    let mut hinted = Vec::new();
    for n in 2..=10 {
        let (next, event) = retitled(&task, &n.to_string(), 1);
        let WriteOutcome::Done(pending) = store.update(&next, &event).await.unwrap() else {
            panic!()
        };
        hinted.push(pending.len());
        task = next;
    }
    // Every unpublished event, or none: a part would skip a version.
    assert_eq!(hinted, [2, 3, 4, 5, 6, 7, 8, 0, 0]);
}

#[tokio::test]
async fn one_of_several_workers_sweeps_and_a_sibling_takes_over_from_the_dead() {
    let store = fresh().await;
    let long = Duration::from_secs(3600);
    let claim = async |name, hold| store.claim_sweep(name, hold).await.unwrap();
    // The very first claim may only create the document that holds it.
    eventually(Duration::from_secs(5), async || claim("one", long).await).await;
    assert!(!claim("two", long).await);
    // The holder may claim again; its last claim says for how long it holds.
    assert!(claim("one", Duration::ZERO).await);
    eventually(Duration::from_secs(5), async || claim("two", long).await).await;
    assert!(!claim("one", long).await);
}

#[tokio::test]
async fn the_outbox_the_purge_and_keys_go_by_index() {
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
        (outbox, doc! {"pending.0.at": 1}),
        (
            doc! {
                "deleted_at": {"$lt": bson::DateTime::MAX, "$type": "date"},
                "pending.0": {"$exists": false},
            },
            doc! {},
        ),
        (doc! {"owner_id": "owner", "idempotency.key": "k"}, doc! {}),
        (
            doc! {"idempotency.at": {"$lt": bson::DateTime::MAX}},
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

#[tokio::test]
async fn a_page_costs_the_same_at_any_depth_in_every_order() {
    const TASKS: i64 = 240;
    const LIMIT: usize = 5;
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let store = support::store(&mongo.url(), &name).await;
    store.prepare().await.unwrap();
    for n in 0..TASKS {
        let task = NewTask {
            due_at: (n % 2 == 0).then(|| at(n)),
            priority: Priority::ALL[(n % 4) as usize],
            ..new(&n.to_string())
        };
        let owner = if n % 3 == 0 { "other" } else { "owner" };
        insert(&store, owner, task, n).await;
    }
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&name);
    database.run_command(doc! {"profile": 2}).await.unwrap();
    for sort in Sort::ALL.iter().copied() {
        let mut page = PageRequest {
            limit: LIMIT,
            after: None,
        };
        while let Some(cursor) = {
            let filter = Filter::of(user("owner"));
            store.list(&filter, sort, &page).await.unwrap().next_cursor
        } {
            page.after = Some(decode(&cursor).unwrap());
        }
    }
    let profile = database.collection::<Document>("system.profile");
    let finds = doc! {"command.find": "tasks"};
    let finds: Vec<Document> = profile
        .find(finds)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    // 160 tasks in pages of five, in six orders; some pages span several segments.
    assert!(finds.len() >= 6 * 32, "{}", finds.len());
    for find in finds {
        let cost = |name: &str| find.get_i32(name).unwrap();
        assert!(cost("keysExamined") <= LIMIT as i32 + 4, "{find}");
        assert!(cost("docsExamined") <= LIMIT as i32 + 2, "{find}");
        assert!(find.get("hasSortStage").is_none(), "{find}");
    }
}

#[tokio::test]
async fn a_search_that_nobody_waits_for_any_more_keeps_its_turn_until_it_ends() {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let mut network = ChaosProxy::start(mongo.address()).await;
    // One connection, so that requests are answered in the order in which they were sent.
    let url = format!("{}&maxPoolSize=1", mongo.url_at(network.address()));
    let store = support::store(&url, &name).await;
    store.prepare().await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&name);
    database.run_command(doc! {"profile": 2}).await.unwrap();
    let page = PageRequest {
        limit: 1,
        after: None,
    };
    let filter = Filter {
        status: Some(Status::Done),
        ..Filter::of(user("ann"))
    };
    let search = || store.list(&filter, Sort::default(), &page);

    network.blackhole().await;
    for _ in 0..10 {
        // Dropped, as when a client hangs up.
        assert!(search().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    network.restore().await;
    let (one, other) = tokio::join!(search(), search());
    assert!(one.is_ok() && other.is_ok());
    // Of the ten, only the two that had a permit were ever sent.
    let finds = doc! {"command.find": "tasks"};
    let profile = database.collection::<Document>("system.profile");
    assert_eq!(profile.count_documents(finds).await.unwrap(), 2 + 2);
}

#[tokio::test]
async fn tasks_that_are_created_together_are_one_command_and_each_has_its_own_answer() {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let store = support::store(&mongo.url(), &name).await;
    store.prepare().await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&name);
    database.run_command(doc! {"profile": 2}).await.unwrap();

    let creations = (0..100).map(|number| {
        let (task, event) = Task::create(user("owner"), new("x"), at(number));
        // Every second one has the same key.
        let key = (number % 2 == 0).then(|| key("k"));
        let store = &store;
        async move { store.insert(&task, &event, key.as_ref()).await.unwrap() }
    });
    let answers = futures_util::future::join_all(creations).await;
    let new = |answer: &Once<_, _>| matches!(answer, Once::New(_));
    let (keyed, plain): (Vec<_>, Vec<_>) = answers.chunks(2).map(|two| (&two[0], &two[1])).unzip();
    assert!(plain.into_iter().all(new));
    assert_eq!(keyed.iter().filter(|answer| new(answer)).count(), 1);
    assert!(
        keyed
            .iter()
            .all(|answer| matches!(answer, Once::New(_) | Once::Before(_)))
    );
    let inserts = doc! {"op": "insert", "command.insert": "tasks"};
    let profile = database.collection::<Document>("system.profile");
    assert_eq!(profile.count_documents(inserts).await.unwrap(), 1);
    let tasks = database.collection::<Document>("tasks");
    assert_eq!(tasks.count_documents(doc! {}).await.unwrap(), 51);
}

#[tokio::test]
async fn a_task_that_nobody_waits_for_any_more_is_not_sent() {
    let mongo = shared_mongodb().await;
    let name = mongo.fresh_database();
    let mut network = ChaosProxy::start(mongo.address()).await;
    let store = support::store(&mongo.url_at(network.address()), &name).await;
    store.prepare().await.unwrap();
    let create = |title: &str| {
        let (task, event) = Task::create(user("owner"), new(title), at(0));
        let store = store.clone();
        async move { store.insert(&task, &event, None).await }
    };

    network.blackhole().await;
    let under_way = tokio::spawn(create("under way"));
    tokio::task::yield_now().await;
    // Dropped, as when a client hangs up while another client's command is in flight.
    assert!(create("given up").now_or_never().is_none());
    let waits = tokio::spawn(create("waits"));
    network.restore().await;
    under_way.await.unwrap().unwrap();
    waits.await.unwrap().unwrap();

    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let tasks = client.database(&name).collection::<Document>("tasks");
    let given_up = doc! {"title": "given up"};
    assert_eq!(tasks.count_documents(given_up).await.unwrap(), 0);
    assert_eq!(tasks.count_documents(doc! {}).await.unwrap(), 2);
}
