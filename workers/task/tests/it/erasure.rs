//! Deleted users: their tasks are deleted, no task stays assigned to them, and nothing of them comes back.

use std::sync::Arc;
use std::time::Duration;

use contract::event::{Envelope, EventType, UserDeleted};
use contract::id::{TaskId, UserId};
use contract::page::PageRequest;
use events::bus::Bus;
use events::outbox::Outbox;
use events::relay::Relay;
use jiff::Timestamp;
use serde_json::json;
use tasks::attachments::Attachments;
use tasks::domain::{Erasure, NewTask, Task};
use tasks::erasure::{Eraser, ErasurePass};
use tasks::store::{Erasures, Filter, Sort, TaskStore, WriteOutcome};
use tasks_mongo::MongoTaskStore;
use tasks_sqlite::disk::DiskFiles;
use testkit::{Signed, eventually, free_port, shared_mongodb};
use tokio::sync::Notify;

use crate::conformance::{at, insert, new, retitled, user};
use crate::support::{self, ManualClock, Worker, create, create_titled, path};

/// An eraser that the test runs pass by pass, at times that the test sets.
struct Fixture {
    store: Arc<MongoTaskStore>,
    clock: Arc<ManualClock>,
    eraser: Eraser,
}

impl Fixture {
    async fn new() -> Self {
        let mongo = shared_mongodb().await;
        let store = support::store(&mongo.url(), &mongo.fresh_database()).await;
        Self::on(store).await
    }

    async fn on(store: MongoTaskStore) -> Self {
        store.prepare().await.unwrap();
        let store = Arc::new(store);
        let clock = Arc::new(ManualClock::at(at(0)));
        Self {
            eraser: eraser(&store, &clock),
            store,
            clock,
        }
    }

    async fn delete_user(&self, name: &str) {
        let erasure = Erasure::new(user(name), at(0));
        self.store.note(&[erasure]).await.unwrap();
    }

    async fn pass_at(&self, now: Timestamp) -> Option<ErasurePass> {
        self.clock.set(now);
        self.eraser.erase_once().await.unwrap()
    }

    async fn history(&self, id: &TaskId) -> Vec<Envelope> {
        let all = PageRequest {
            limit: 100,
            after: None,
        };
        self.store.history(id, &all).await.unwrap().items
    }

    async fn count(&self, name: &str) -> usize {
        let all = PageRequest {
            limit: 100,
            after: None,
        };
        let filter = Filter::of(user(name));
        let page = self.store.list(&filter, Sort::default(), &all).await;
        page.unwrap().items.len()
    }
}

fn eraser(store: &Arc<MongoTaskStore>, clock: &Arc<ManualClock>) -> Eraser {
    // Nothing is published: the tests read the events from the outbox.
    let bus = support::bus(&format!("amqp://127.0.0.1:{}/%2f", free_port()));
    let registry = prometheus::Registry::new();
    let bus = Arc::new(bus);
    let (_, relay) = Relay::new(store.clone(), bus, clock.clone(), &registry);
    let folder = tempfile::TempDir::new().unwrap();
    let files = Arc::new(DiskFiles::open(folder.path()).unwrap());
    let attachments = Attachments::new(files, clock.clone(), 1);
    let wake = Arc::new(Notify::new());
    Eraser::new(store.clone(), attachments, relay, clock.clone(), wake)
}

fn assigned(title: &str, assignee: Option<&str>) -> NewTask {
    NewTask {
        assignee_id: assignee.map(user),
        ..new(title)
    }
}

const COMPLETE: ErasurePass = ErasurePass {
    erased: 0,
    left: 0,
    complete: true,
};

#[tokio::test]
async fn what_the_user_owned_is_deleted_and_what_it_was_assigned_is_unassigned() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let own = insert(store.as_ref(), "ann", assigned("own", None), 1).await;
    let given = insert(store.as_ref(), "ann", assigned("given", Some("bob")), 2).await;
    let got = insert(store.as_ref(), "bob", assigned("got", Some("ann")), 3).await;
    let bobs = insert(store.as_ref(), "bob", assigned("bobs", Some("eve")), 4).await;
    fixture.delete_user("ann").await;
    let pass = fixture.pass_at(at(10)).await;
    assert_eq!(
        pass,
        Some(ErasurePass {
            erased: 3,
            ..COMPLETE
        })
    );

    for gone in [&own, &given] {
        assert_eq!(store.get(&gone.id).await.unwrap(), None);
        let [_, deleted] = &fixture.history(&gone.id).await[..] else {
            panic!()
        };
        assert_eq!(deleted.event_type, EventType::TaskDeleted);
        assert_eq!(deleted.data["actor_id"], "ann");
    }
    let left = store.get(&got.id).await.unwrap().unwrap();
    assert_eq!((left.version, left.assignee_id), (2, None));
    let [_, updated] = &fixture.history(&got.id).await[..] else {
        panic!()
    };
    assert_eq!(updated.event_type, EventType::TaskUpdated);
    assert_eq!(updated.data["changed"], json!(["assignee_id"]));
    assert_eq!(store.get(&bobs.id).await.unwrap(), Some(bobs));
    assert_eq!(fixture.pass_at(at(10)).await, None);
}

#[tokio::test]
async fn what_is_written_for_the_user_later_goes_too_until_nothing_can_come_any_more() {
    const LATE_WRITES: i64 = 15 * 60 * 1000;
    let fixture = Fixture::new().await;
    fixture.delete_user("ann").await;
    assert_eq!(fixture.pass_at(at(0)).await, Some(COMPLETE));
    // The last requests with an access token from before the deletion.
    let late = 10 * 60 * 1000;
    let own = insert(fixture.store.as_ref(), "ann", assigned("late", None), late).await;
    insert(
        fixture.store.as_ref(),
        "bob",
        assigned("late", Some("ann")),
        late,
    )
    .await;
    let mut erased = 0;
    let mut now = 0;
    while now < LATE_WRITES {
        now += 1_000;
        while let Some(pass) = fixture.pass_at(at(now)).await {
            erased += pass.erased;
        }
        assert_eq!(fixture.store.due(at(now)).await.unwrap(), None);
    }
    assert_eq!(erased, 2);
    assert_eq!(fixture.count("ann").await, 0);
    assert_eq!(fixture.history(&own.id).await.len(), 2);
    assert_eq!(fixture.store.due(Timestamp::MAX).await.unwrap(), None);
}

#[tokio::test]
async fn several_workers_erase_one_user_and_each_task_has_one_event() {
    let fixture = Fixture::new().await;
    let mut tasks: Vec<Task> = Vec::new();
    for n in 0..120 {
        let (owner, assignee) = if n % 2 == 0 {
            ("ann", "bob")
        } else {
            ("bob", "ann")
        };
        let task = assigned(&n.to_string(), Some(assignee));
        tasks.push(insert(fixture.store.as_ref(), owner, task, n).await);
    }
    fixture.delete_user("ann").await;
    let (second, third) = (
        eraser(&fixture.store, &fixture.clock),
        eraser(&fixture.store, &fixture.clock),
    );
    let (one, two, three) = tokio::join!(
        fixture.eraser.erase_once(),
        second.erase_once(),
        third.erase_once()
    );
    for pass in [one, two, three] {
        assert!(
            pass.unwrap()
                .is_none_or(|pass| pass.complete && pass.left == 0)
        );
    }
    assert_eq!(
        (fixture.count("ann").await, fixture.count("bob").await),
        (0, 60)
    );
    for task in tasks {
        assert_eq!(fixture.history(&task.id).await.len(), 2);
    }
}

#[tokio::test]
async fn a_task_that_takes_no_more_events_is_tried_until_it_does() {
    let mongo = shared_mongodb().await;
    let store = support::store(&mongo.url(), &mongo.fresh_database()).await;
    let fixture = Fixture::on(store.with_max_document_bytes(6_000)).await;
    let mut task = insert(fixture.store.as_ref(), "ann", new("x"), 0).await;
    loop {
        let (next, event) = retitled(&task, &task.version.to_string(), 1);
        match fixture.store.update(&next, &event).await.unwrap() {
            WriteOutcome::Done(_) => task = next,
            WriteOutcome::Full => break,
            WriteOutcome::Stale => panic!(),
        }
    }
    fixture.delete_user("ann").await;
    let day = at(24 * 3600 * 1000);
    let pass = fixture.pass_at(day).await;
    assert_eq!(
        pass,
        Some(ErasurePass {
            left: 1,
            ..COMPLETE
        })
    );
    let minute = Duration::from_secs(60);
    assert_eq!(fixture.pass_at(day + minute).await.unwrap().left, 1);

    let pending = fixture.store.pending(Timestamp::MAX, 1_000).await.unwrap();
    fixture.store.mark_published(&pending).await.unwrap();
    assert_eq!(fixture.pass_at(day + minute * 2).await.unwrap().erased, 1);
    assert_eq!(fixture.store.due(Timestamp::MAX).await.unwrap(), None);
}

pub(crate) fn deleted(name: &str) -> Envelope {
    let user_id: UserId = user(name);
    let at = Timestamp::now();
    UserDeleted { user_id, at }.event("/services/user", 3)
}

async fn count(user: &Signed) -> usize {
    let page = user.get("/api/tasks?limit=100").send().await.expect(200);
    page.json()["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_deleted_user_is_heard_of_from_the_queue_and_each_change_is_told_once() {
    let worker = Worker::start().await;
    let (ann, bob) = (worker.as_user("ann"), worker.as_user("bob"));
    for n in 0..3 {
        create_titled(&ann, &n.to_string()).await;
    }
    let given = create(&bob, json!({"title": "given", "assignee_id": "ann"})).await;
    let bus = support::bus(&worker.amqp_url);
    // An unreadable event does not hold up the others.
    let nobody = Envelope::new(
        "/services/user",
        EventType::UserDeleted,
        "nobody",
        1,
        Timestamp::now(),
        json!({}),
    );
    // Delivered twice.
    bus.publish(&[nobody, deleted("ann"), deleted("ann")])
        .await
        .unwrap();
    eventually(Duration::from_secs(30), async || count(&ann).await == 0).await;
    let left = bob.get(&path(&given)).send().await.expect(200).json();
    assert_eq!(left["assignee_id"], json!(null));
    assert_eq!(left["version"], 2);

    let events = worker.events().await;
    let count = |of: EventType| {
        let of_type = events.iter().filter(|event| event.event_type == of);
        of_type.map(|event| &event.id).collect::<Vec<_>>().len()
    };
    assert_eq!(count(EventType::TaskCreated), 4);
    assert_eq!(count(EventType::TaskUpdated), 1);
    assert_eq!(count(EventType::TaskDeleted), 3);
}
