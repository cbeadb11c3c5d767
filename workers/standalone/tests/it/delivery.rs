//! Every change that was answered is told once to each recipient.

use serde_json::{Value, json};
use testkit::Client;

use crate::world::{User, World};

/// What a notification is about: task, version and type.
type Told = (String, u64, String);

/// Makes changes and remembers who must hear of them.
pub(crate) struct Changes<'a> {
    world: &'a World,
    owner: &'a User,
    assignee: &'a User,
    requests: usize,
    owner_hears: Vec<Told>,
    assignee_hears: Vec<Told>,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(world: &'a World, owner: &'a User, assignee: &'a User) -> Self {
        let (owner_hears, assignee_hears) = (Vec::new(), Vec::new());
        Self {
            world,
            owner,
            assignee,
            requests: 0,
            owner_hears,
            assignee_hears,
        }
    }

    /// The owner creates a task, the assignee works on it, the owner deletes it: each tells the
    /// other. And one that only the owner knows.
    pub(crate) async fn make(&mut self) {
        let shared = json!({"title": "Shared", "assignee_id": self.assignee.id});
        let task = self.create(shared).await;
        self.assignee_hears
            .push((task.clone(), 1, "task.created".into()));
        for (version, status) in [(2, "in_progress"), (3, "done")] {
            let path = format!("/api/tasks/{task}");
            let request = self.gateway().patch(&path).json(&json!({"status": status}));
            let changed = request
                .bearer(&self.assignee.token)
                .send()
                .await
                .expect(200)
                .json();
            assert_eq!(changed["version"], version);
            self.owner_hears
                .push((task.clone(), version, "task.updated".into()));
        }
        let request = self.gateway().delete(&format!("/api/tasks/{task}"));
        request.bearer(&self.owner.token).send().await.expect(204);
        self.assignee_hears.push((task, 4, "task.deleted".into()));

        let own = self.create(json!({"title": "Alone"})).await;
        self.owner_hears.push((own, 1, "task.created".into()));
    }

    async fn create(&mut self, task: Value) -> String {
        let request = self.gateway().post("/api/tasks").json(&task);
        let task = request
            .bearer(&self.owner.token)
            .send()
            .await
            .expect(201)
            .json();
        text(&task, "id")
    }

    /// The gateways in turn.
    fn gateway(&mut self) -> &'a Client {
        self.requests += 1;
        &self.world.gateways[self.requests % 2]
    }

    /// Once nothing is under way, each has heard of exactly the right changes.
    pub(crate) async fn were_told_once(mut self) {
        self.world.ground.drained().await;
        for (user, hears) in [
            (self.owner, &mut self.owner_hears),
            (self.assignee, &mut self.assignee_hears),
        ] {
            let mut told = notifications(self.world, user).await;
            told.sort();
            hears.sort();
            assert_eq!(&told, hears);
            let unread = self.world.http().get("/api/notifications/unread-count");
            let unread = unread.bearer(&user.token).send().await.expect(200).json();
            assert_eq!(unread, json!({"count": hears.len()}));
        }
    }
}

/// All of a user's notifications, page by page.
async fn notifications(world: &World, user: &User) -> Vec<Told> {
    let mut told = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/notifications?limit=50{cursor}");
        let page = world
            .http()
            .get(&path)
            .bearer(&user.token)
            .send()
            .await
            .expect(200)
            .json();
        told.extend(page["items"].as_array().expect("a list").iter().map(about));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return told,
        }
    }
}

fn about(notification: &Value) -> Told {
    let version = notification["task_version"].as_u64().expect("a version");
    (
        text(notification, "task_id"),
        version,
        text(notification, "type"),
    )
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_at_every_replica_tell_each_change_once() {
    let world = World::start().await;
    let (owner, assignee) = (world.user().await, world.user().await);
    let mut streams = Vec::new();
    for n in 0..4 {
        let request = world.gateways[n % 2].get("/api/notifications/stream");
        streams.push(request.bearer(&owner.token).sse().await);
    }
    let mut changes = Changes::new(&world, &owner, &assignee);
    for _ in 0..5 {
        changes.make().await;
    }
    let mut expected = changes.owner_hears.clone();
    expected.sort();
    for mut stream in streams {
        let mut told = Vec::new();
        for sequence in 1..=expected.len() {
            let event = stream.next().await;
            assert_eq!(event.id, Some(sequence.to_string()), "{event:?}");
            told.push(about(&event.json()));
        }
        told.sort();
        assert_eq!(told, expected);
    }
    changes.were_told_once().await;
    world.finish().await;
}
