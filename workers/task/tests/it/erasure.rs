//! Deleted users: their tasks go, they are nobody's assignee, and nothing of them comes back.

use std::sync::Arc;
use std::time::Duration;

use contract::event::{Envelope, EventType, UserDeleted};
use contract::id::{TaskId, UserId};
use contract::page::PageRequest;
use events::bus::Bus;
use events::relay::Relay;
use jiff::Timestamp;
use serde_json::json;
use tasks::attachments::Attachments;
use tasks::domain::{Erasure, NewTask, Task};
use tasks::erasure::{Eraser, Look};
use tasks::store::{Erasures, Filter, Sort, TaskStore};
use tasks_mongo::MongoTaskStore;
use tasks_sqlite::disk::DiskFiles;
use testkit::{Signed, eventually, free_port, shared_mongodb};
use tokio::sync::Notify;

use crate::conformance::{at, insert, new, retitled, user};
use crate::support::{self, ByHand, Worker, create, create_titled, path};

/// An eraser that takes its steps when told, at the time it is told.
struct Stage {
    store: Arc<MongoTaskStore>,
    clock: Arc<ByHand>,
    eraser: Eraser,
}

impl Stage {
    async fn new() -> Self {
        let mongo = shared_mongodb().await;
        let store = support::store(&mongo.url(), &mongo.fresh_database()).await;
        Self::on(store).await
    }

    async fn on(store: MongoTaskStore) -> Self {
        store.prepare().await.unwrap();
        let store = Arc::new(store);
        let clock = Arc::new(ByHand::at(at(0)));
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

    async fn look_at(&self, now: Timestamp) -> Option<Look> {
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

fn eraser(store: &Arc<MongoTaskStore>, clock: &Arc<ByHand>) -> Eraser {
    // Nothing is published: what the outbox holds is looked at there.
    let bus = support::bus(&format!("amqp://127.0.0.1:{}/%2f", free_port()));
    let registry = prometheus::Registry::new();
    let bus = Arc::new(bus);
    let (_, relay) = Relay::new(store.clone(), bus, clock.clone(), &registry);
    let folder = tempfile::TempDir::new().unwrap();
    let files = Arc::new(DiskFiles::open(folder.path()).unwrap());
    let attachments = Attachments::new(files, clock.clone(), 1);
    let noted = Arc::new(Notify::new());
    Eraser::new(store.clone(), attachments, relay, clock.clone(), noted)
}

fn assigned(title: &str, assignee: Option<&str>) -> NewTask {
    NewTask {
        assignee_id: assignee.map(user),
        ..new(title)
    }
}

const WHOLE: Look = Look {
    erased: 0,
    left: 0,
    whole: true,
};

#[tokio::test]
async fn what_the_user_owned_is_deleted_and_what_it_was_assigned_is_unassigned() {
    let stage = Stage::new().await;
    let store = &stage.store;
    let own = insert(store.as_ref(), "ann", assigned("own", None), 1).await;
    let given = insert(store.as_ref(), "ann", assigned("given", Some("bob")), 2).await;
    let got = insert(store.as_ref(), "bob", assigned("got", Some("ann")), 3).await;
    let bobs = insert(store.as_ref(), "bob", assigned("bobs", Some("eve")), 4).await;
    stage.delete_user("ann").await;
    let look = stage.look_at(at(10)).await;
    assert_eq!(look, Some(Look { erased: 3, ..WHOLE }));

    for gone in [&own, &given] {
        assert_eq!(store.get(&gone.id).await.unwrap(), None);
        let [_, deleted] = &stage.history(&gone.id).await[..] else {
            panic!()
        };
        assert_eq!(deleted.event_type, EventType::TaskDeleted);
        assert_eq!(deleted.data["actor_id"], "ann");
    }
    let left = store.get(&got.id).await.unwrap().unwrap();
    assert_eq!((left.version, left.assignee_id), (2, None));
    let [_, updated] = &stage.history(&got.id).await[..] else {
        panic!()
    };
    assert_eq!(updated.event_type, EventType::TaskUpdated);
    assert_eq!(updated.data["changed"], json!(["assignee_id"]));
    assert_eq!(store.get(&bobs.id).await.unwrap(), Some(bobs));
    assert_eq!(stage.look_at(at(10)).await, None);
}

#[tokio::test]
async fn what_is_written_for_the_user_later_goes_too_until_nothing_can_come_any_more() {
    const AFTERMATH: i64 = 15 * 60 * 1000;
    let stage = Stage::new().await;
    stage.delete_user("ann").await;
    assert_eq!(stage.look_at(at(0)).await, Some(WHOLE));
    // The last request with a token from before.
    let late = 10 * 60 * 1000;
    let own = insert(stage.store.as_ref(), "ann", assigned("late", None), late).await;
    insert(
        stage.store.as_ref(),
        "bob",
        assigned("late", Some("ann")),
        late,
    )
    .await;
    let mut erased = 0;
    let mut now = 0;
    while now < AFTERMATH {
        now += 1_000;
        while let Some(look) = stage.look_at(at(now)).await {
            erased += look.erased;
        }
        assert_eq!(stage.store.due(at(now)).await.unwrap(), None);
    }
    assert_eq!(erased, 2);
    assert_eq!(stage.count("ann").await, 0);
    assert_eq!(stage.history(&own.id).await.len(), 2);
    assert_eq!(stage.store.due(Timestamp::MAX).await.unwrap(), None);
}

#[tokio::test]
async fn several_workers_erase_one_user_and_each_task_has_one_event() {
    let stage = Stage::new().await;
    let mut tasks: Vec<Task> = Vec::new();
    for n in 0..120 {
        let (owner, assignee) = if n % 2 == 0 {
            ("ann", "bob")
        } else {
            ("bob", "ann")
        };
        let task = assigned(&n.to_string(), Some(assignee));
        tasks.push(insert(stage.store.as_ref(), owner, task, n).await);
    }
    stage.delete_user("ann").await;
    let (second, third) = (
        eraser(&stage.store, &stage.clock),
        eraser(&stage.store, &stage.clock),
    );
    let (one, two, three) = tokio::join!(
        stage.eraser.erase_once(),
        second.erase_once(),
        third.erase_once()
    );
    for look in [one, two, three] {
        assert!(
            look.unwrap()
                .is_none_or(|look| look.whole && look.left == 0)
        );
    }
    assert_eq!(
        (stage.count("ann").await, stage.count("bob").await),
        (0, 60)
    );
    for task in tasks {
        assert_eq!(stage.history(&task.id).await.len(), 2);
    }
}

#[tokio::test]
async fn a_task_that_takes_no_more_events_is_tried_until_it_does() {
    let mongo = shared_mongodb().await;
    let store = support::store(&mongo.url(), &mongo.fresh_database()).await;
    let stage = Stage::on(store.with_max_document_bytes(6_000)).await;
    let mut task = insert(stage.store.as_ref(), "ann", new("x"), 0).await;
    use tasks::store::Written;
    loop {
        let (next, event) = retitled(&task, &task.version.to_string(), 1);
        match stage.store.update(&next, &event).await.unwrap() {
            Written::Done(_) => task = next,
            Written::Full => break,
            Written::Stale => panic!(),
        }
    }
    stage.delete_user("ann").await;
    let day = at(24 * 3600 * 1000);
    let look = stage.look_at(day).await;
    assert_eq!(look, Some(Look { left: 1, ..WHOLE }));
    let minute = Duration::from_secs(60);
    assert_eq!(stage.look_at(day + minute).await.unwrap().left, 1);

    use events::outbox::Outbox;
    let pending = stage.store.pending(Timestamp::MAX, 1_000).await.unwrap();
    stage.store.mark_published(&pending).await.unwrap();
    assert_eq!(stage.look_at(day + minute * 2).await.unwrap().erased, 1);
    assert_eq!(stage.store.due(Timestamp::MAX).await.unwrap(), None);
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
    // Whoever cannot be read stops nobody.
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
