use contract::event::{Envelope, EventType};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;

const TIME: &str = "2026-11-23T10:15:00.123Z";

fn time() -> Timestamp {
    TIME.parse().unwrap()
}

fn data(assignee: Option<&str>, actor: &str, changed: &[&str]) -> Value {
    json!({
        "task": {
            "id": "t1", "version": 3, "title": "Water the plants", "status": "in_progress",
            "priority": "high", "owner_id": "owner", "assignee_id": assignee, "tags": ["home"],
        },
        "changed": changed,
        "actor_id": actor,
    })
}

fn envelope(data: Value) -> Value {
    let envelope = Envelope::new(
        "/task-worker",
        EventType::TaskUpdated,
        "t1",
        3,
        time(),
        data,
    );
    serde_json::to_value(envelope).unwrap()
}

fn parse(envelope: &Value) -> Result<TaskEvent, Poison> {
    TaskEvent::parse(envelope.to_string().as_bytes(), EventType::TaskUpdated)
}

fn event(assignee: Option<&str>, actor: &str, changed: &[&str]) -> TaskEvent {
    parse(&envelope(data(assignee, actor, changed))).unwrap()
}

fn recipients_of(event: &TaskEvent) -> Vec<String> {
    let task = TaskNotifications::new(event, time());
    task.notifications
        .iter()
        .map(|n| n.user_id.to_string())
        .collect()
}

#[test]
fn owner_and_assignee_are_told_except_the_one_who_acted() {
    assert_eq!(
        recipients_of(&event(Some("helper"), "owner", &[])),
        ["helper"]
    );
    assert_eq!(
        recipients_of(&event(Some("helper"), "helper", &[])),
        ["owner"]
    );
    assert_eq!(
        recipients_of(&event(Some("helper"), "admin", &[])),
        ["owner", "helper"]
    );
}

#[test]
fn who_acts_alone_is_told() {
    assert_eq!(recipients_of(&event(None, "owner", &[])), ["owner"]);
    assert_eq!(
        recipients_of(&event(Some("owner"), "owner", &[])),
        ["owner"]
    );
}

#[test]
fn a_notice_says_what_happened_and_when() {
    let task = TaskNotifications::new(
        &event(Some("helper"), "owner", &["status", "due_at"]),
        time(),
    );
    assert_eq!(task.event_id, "t1:3");
    let content = &task.notifications[0];
    assert_eq!(content.title, "Task updated: Water the plants");
    assert_eq!(content.body, "Changed: status (now in progress), due date.");
    assert_eq!((content.task_version, content.created_at), (3, time()));
}

#[test]
fn the_new_assignee_reads_that_it_is_them() {
    let event = event(Some("helper"), "admin", &["assignee_id"]);
    let task = TaskNotifications::new(&event, time());
    assert_eq!(task.notifications[0].body, "Changed: assignee.");
    assert_eq!(task.notifications[1].body, "Changed: assignee (now you).");
}

#[test]
fn texts_are_cut_between_characters() {
    let mut event = event(None, "owner", &[]);
    event.title = "ü".repeat(1000);
    let title = &TaskNotifications::new(&event, time()).notifications[0].title;
    assert_eq!(title.chars().count(), "Task updated: ".len() + 201);
    event.changed = vec!["x".into(); 100];
    let body = &TaskNotifications::new(&event, time()).notifications[0].body;
    assert!(body.ends_with("x, 92 more."), "{body}");
}

#[test]
fn an_event_older_than_the_retention_tells_nobody() {
    let event = event(Some("helper"), "owner", &[]);
    let at = |age| {
        TaskNotifications::new(&event, time() + age)
            .notifications
            .len()
    };
    assert_eq!(at(RETENTION), 1);
    assert_eq!(at(RETENTION + SignedDuration::from_millis(1)), 0);
}

#[test]
fn what_is_not_an_event_of_this_version_is_poison() {
    let good = envelope(data(None, "owner", &[]));
    assert!(parse(&good).is_ok());
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        parse(&changed).unwrap_err()
    };
    for (pointer, value) in [
        ("/specversion", json!("0.3")),
        ("/type", json!("task.updated.v2")),
        ("/type", json!("task.vanished.v1")),
        ("/time", json!("yesterday")),
        ("/datacontenttype", json!("text/plain")),
    ] {
        assert!(
            matches!(with(pointer, value), Poison::Envelope(_)),
            "{pointer}"
        );
    }
    for (pointer, value) in [
        ("/data", json!(null)),
        ("/data/actor_id", json!("")),
        ("/data/actor_id", json!(7)),
        ("/data/task/owner_id", json!("two words")),
        ("/data/task/version", json!(-1)),
        ("/data/task/title", json!(null)),
    ] {
        assert!(
            matches!(with(pointer, value), Poison::Data(..)),
            "{pointer}"
        );
    }
    for (pointer, value) in [
        ("/id", json!("t1:4")),
        ("/subject", json!("t2")),
        ("/data/task/version", json!(4)),
        ("/data/task/version", json!(u64::MAX)),
    ] {
        assert_eq!(with(pointer, value), Poison::Inconsistent, "{pointer}");
    }
}

#[test]
fn no_bytes_make_the_parser_panic_and_reasons_stay_short() {
    let queue = EventType::TaskCreated;
    for body in [
        &b""[..],
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{\"specversion\":\"1.0\"}",
    ] {
        assert!(matches!(
            TaskEvent::parse(body, queue),
            Err(Poison::Envelope(_))
        ));
    }
    let nested = "[".repeat(100_000);
    assert!(matches!(
        TaskEvent::parse(nested.as_bytes(), queue),
        Err(Poison::Envelope(_))
    ));
    let large = vec![b' '; (256 << 10) + 1];
    assert_eq!(
        TaskEvent::parse(&large, queue),
        Err(Poison::TooLarge(large.len()))
    );
    let quoted = json!({"specversion": "x".repeat(10_000)}).to_string();
    let reason = TaskEvent::parse(quoted.as_bytes(), queue)
        .unwrap_err()
        .to_string();
    assert!(reason.len() < 400, "{reason}");
}

#[test]
fn an_event_in_the_wrong_queue_is_poison() {
    let body = envelope(data(None, "owner", &[])).to_string();
    assert_eq!(
        TaskEvent::parse(body.as_bytes(), EventType::TaskCreated),
        Err(Poison::WrongQueue {
            found: EventType::TaskUpdated,
            queue: EventType::TaskCreated,
        })
    );
}

#[test]
fn a_notification_is_rendered_as_the_contract_says() {
    let content = TaskNotifications::new(&event(None, "owner", &[]), time())
        .notifications
        .remove(0);
    let id = content.id.to_string();
    let rendered = serde_json::to_value(Notification {
        content,
        sequence: 7,
        read: false,
    })
    .unwrap();
    assert_eq!(
        rendered,
        json!({
            "id": id, "type": "task.updated", "task_id": "t1", "task_version": 3,
            "title": "Task updated: Water the plants", "body": "It was changed.",
            "actor_id": "owner", "read": false, "created_at": TIME,
        })
    );
}
