//! Each recipient gets one notification for every change that was answered.

use serde_json::{Value, json};
use testkit::Client;

use crate::test_platform::{TestPlatform, User};

/// What a notification is about: the task, its version and the type.
type Subject = (String, u64, String);

/// Makes changes, and records which notifications they must cause.
pub(crate) struct Changes<'a> {
    test: &'a TestPlatform,
    owner: &'a User,
    assignee: &'a User,
    requests: usize,
    for_owner: Vec<Subject>,
    for_assignee: Vec<Subject>,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(test: &'a TestPlatform, owner: &'a User, assignee: &'a User) -> Self {
        let (for_owner, for_assignee) = (Vec::new(), Vec::new());
        Self {
            test,
            owner,
            assignee,
            requests: 0,
            for_owner,
            for_assignee,
        }
    }

    /// The owner creates a task, the assignee changes it, and the owner deletes it: each change notifies
    /// the other user. The owner also creates a task without an assignee.
    pub(crate) async fn make(&mut self) {
        let shared = json!({"title": "Shared", "assignee_id": self.assignee.id});
        let task = self.create(shared).await;
        self.for_assignee
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
            self.for_owner
                .push((task.clone(), version, "task.updated".into()));
        }
        let request = self.gateway().delete(&format!("/api/tasks/{task}"));
        request.bearer(&self.owner.token).send().await.expect(204);
        self.for_assignee.push((task, 4, "task.deleted".into()));

        let own = self.create(json!({"title": "Alone"})).await;
        self.for_owner.push((own, 1, "task.created".into()));
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

    /// Alternates between the gateways.
    fn gateway(&mut self) -> &'a Client {
        self.requests += 1;
        &self.test.gateways[self.requests % 2]
    }

    /// Once all work is done, asserts that each user has exactly the expected notifications.
    pub(crate) async fn assert_notified_once(mut self) {
        self.test.dependencies.drained().await;
        for (user, expected) in [
            (self.owner, &mut self.for_owner),
            (self.assignee, &mut self.for_assignee),
        ] {
            let mut found = notifications(self.test, user).await;
            found.sort();
            expected.sort();
            assert_eq!(&found, expected);
            let unread = self.test.http().get("/api/notifications/unread-count");
            let unread = unread.bearer(&user.token).send().await.expect(200).json();
            assert_eq!(unread, json!({"count": expected.len()}));
        }
    }
}

/// All of a user's notifications, read page by page.
async fn notifications(test: &TestPlatform, user: &User) -> Vec<Subject> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/notifications?limit=50{cursor}");
        let page = test
            .http()
            .get(&path)
            .bearer(&user.token)
            .send()
            .await
            .expect(200)
            .json();
        found.extend(page["items"].as_array().expect("a list").iter().map(about));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

fn about(notification: &Value) -> Subject {
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
    let test = TestPlatform::start().await;
    let (owner, assignee) = (test.user().await, test.user().await);
    let mut streams = Vec::new();
    for n in 0..4 {
        let request = test.gateways[n % 2].get("/api/notifications/stream");
        streams.push(request.bearer(&owner.token).sse().await);
    }
    let mut changes = Changes::new(&test, &owner, &assignee);
    for _ in 0..5 {
        changes.make().await;
    }
    let mut expected = changes.for_owner.clone();
    expected.sort();
    for mut stream in streams {
        let mut found = Vec::new();
        for sequence in 1..=expected.len() {
            let event = stream.next().await;
            assert_eq!(event.id, Some(sequence.to_string()), "{event:?}");
            found.push(about(&event.json()));
        }
        found.sort();
        assert_eq!(found, expected);
    }
    changes.assert_notified_once().await;
    test.finish().await;
}
