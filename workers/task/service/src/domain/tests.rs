use std::time::Duration;

use contract::event::{Envelope, EventType};
use contract::id::{AttachmentId, TaskId, UserId};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn new() -> NewTask {
    NewTask {
        title: "Water the plants".into(),
        description: String::new(),
        status: Status::Todo,
        priority: Priority::Normal,
        due_at: Some(at(5_000)),
        tags: vec!["home".into()],
        assignee_id: Some(user("assignee")),
    }
}

fn task() -> Task {
    Task::create(user("owner"), new(), at(1_000)).0
}

fn title(text: &str) -> Change {
    Change {
        title: Some(text.into()),
        ..Change::default()
    }
}

#[test]
fn each_event_is_what_its_schema_promises() {
    let file = Attachment {
        id: AttachmentId::new(),
        name: "a.png".into(),
        content_type: "image/png".into(),
        size: 0,
        sha256: "0".repeat(64),
    };
    let (id, aid) = (TaskId::new(), file.id.clone());
    let (task, created) =
        Task::create_with_attachments(id, vec![file], user("owner"), new(), at(1_000));
    let (task, updated) = task
        .change(title("x"), &user("owner"), at(2_000))
        .unwrap()
        .unwrap();
    let Some(Erased::Unassigned((task, erased))) = task.erase(&user("assignee"), at(2_500)) else {
        panic!()
    };
    let (task, detached) = task
        .detach(aid.as_str(), &user("owner"), at(2_700))
        .unwrap();
    assert!(
        task.detach(aid.as_str(), &user("owner"), at(2_800))
            .is_none()
    );
    let (_, deleted) = task.delete(&user("owner"), at(3_000)).unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (version, event) in (1..).zip([
        created,
        updated.traced(Some(trace)),
        erased,
        detached,
        deleted,
    ]) {
        let schema: Value = serde_json::from_str(event.event_type.schema()).unwrap();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        let json = serde_json::to_value(&event).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&json)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?} in {json}");
        assert_eq!(event.id, format!("{}:{version}", task.id));

        let mut wrong = json.clone();
        wrong["data"]["task"]["status"] = "unknown".into();
        assert!(!validator.is_valid(&wrong));
        let mut wrong = json;
        wrong["type"] = "task.created.v2".into();
        assert!(!validator.is_valid(&wrong));
    }
}

#[test]
fn an_event_carries_the_task_what_changed_and_who_did_it() {
    let change = Change {
        status: Some(Status::Done),
        ..title("y")
    };
    let (task, event) = task()
        .change(change, &user("assignee"), at(2_000))
        .unwrap()
        .unwrap();
    assert_eq!(event.data["task"], serde_json::to_value(&task).unwrap());
    assert_eq!(event.data["changed"], json!(["title", "status"]));
    assert_eq!(event.data["actor_id"], "assignee");
    assert_eq!((event.time, task.version), (task.updated_at, 2));
}

#[test]
fn a_change_that_changes_nothing_makes_no_version() {
    let task = task();
    let same = Change::from(new());
    assert_eq!(task.change(same, &user("assignee"), at(9_000)), Ok(None));
}

#[test]
fn times_increase_with_versions_though_the_clock_stands_or_goes_back() {
    let (second, _) = task()
        .change(title("a"), &user("owner"), at(1_000))
        .unwrap()
        .unwrap();
    let (third, event) = second.delete(&user("owner"), at(7)).unwrap();
    assert_eq!(second.updated_at, at(1_001));
    assert_eq!((third.updated_at, event.time), (at(1_002), at(1_002)));
}

#[test]
fn only_the_owner_deletes_and_reassigns() {
    let task = task();
    let to = |id: Option<&str>| Change {
        assignee_id: Some(id.map(user)),
        ..Change::default()
    };
    assert!(task.delete(&user("assignee"), at(0)).is_err());
    assert!(task.change(to(None), &user("assignee"), at(0)).is_err());
    assert!(
        task.change(to(Some("assignee")), &user("assignee"), at(0))
            .is_ok()
    );
    let (task, event) = task
        .change(to(Some("other")), &user("owner"), at(0))
        .unwrap()
        .unwrap();
    assert_eq!(event.data["changed"], json!(["assignee_id"]));
    assert!(task.is_visible_to(&user("other")) && !task.is_visible_to(&user("assignee")));
}

#[test]
fn who_is_gone_leaves_its_own_tasks_deleted_and_those_of_others_unassigned() {
    let task = task();
    let Some(Erased::Deleted((gone, event))) = task.erase(&user("owner"), at(2_000)) else {
        panic!()
    };
    assert_eq!(gone.version, 2);
    assert_eq!(event.event_type, EventType::TaskDeleted);
    assert_eq!(event.data["actor_id"], "owner");

    let Some(Erased::Unassigned((left, event))) = task.erase(&user("assignee"), at(2_000)) else {
        panic!()
    };
    assert_eq!((left.version, &left.assignee_id), (2, &None));
    assert_eq!(event.event_type, EventType::TaskUpdated);
    assert_eq!(event.data["task"], serde_json::to_value(&left).unwrap());
    assert_eq!(event.data["changed"], json!(["assignee_id"]));
    assert_eq!(event.data["actor_id"], "assignee");

    assert_eq!(left.erase(&user("assignee"), at(3_000)), None);
    assert_eq!(task.erase(&user("other"), at(2_000)), None);
}

/// When the passes of an erasure begin, at most `up_to` of them, if each begins when it is due and
/// is clean where `clean` says so.
fn passes(clean: impl Fn(Timestamp) -> bool, up_to: usize) -> Vec<Timestamp> {
    let erasure = Erasure::new(user("gone"), at(0));
    std::iter::successors(Some(erasure.due_at), |pass| {
        erasure.next(*pass, clean(*pass))
    })
    .take(up_to)
    .collect()
}

#[test]
fn an_erasure_takes_a_dozen_looks_and_lasts_longer_than_any_token() {
    let passes = passes(|_| true, 100);
    assert!(passes.len() <= 12, "{passes:?}");
    assert_eq!(passes.last(), Some(&at(15 * 60 * 1_000)));
}

#[test]
fn an_erasure_is_not_over_before_a_look_was_clean() {
    let mended = at(3_600_000);
    let passes = passes(|pass| pass >= mended, 1_000);
    let last = *passes.last().unwrap();
    assert!(last >= mended && last < mended + Duration::from_secs(61));
}

#[test]
fn a_clock_that_is_behind_ends_no_erasure() {
    let erasure = Erasure::new(user("gone"), at(60_000));
    assert_eq!(erasure.next(at(0), true), Some(at(1_000)));
}

proptest! {
    #[test]
    fn what_comes_late_is_there_no_longer_than_it_was_late(late in 0..15 * 60 * 1_000_i64) {
        let next = passes(|_| true, 100).into_iter().find(|pass| *pass >= at(late));
        prop_assert!(next.unwrap() <= at(2 * late + 1_000));
    }

    #[test]
    fn an_event_shows_the_very_task(
        title in ".{1,40}",
        description in ".{0,80}",
        tags in proptest::collection::vec(".{1,9}", 0..4),
        due_at in proptest::option::of(0..4_000_000_000_000_i64),
        assigned in any::<bool>(),
        now in 0..4_000_000_000_000_i64,
    ) {
        let new = NewTask {
            title, description, tags, due_at: due_at.map(at),
            assignee_id: assigned.then(|| user("assignee")),
            ..new()
        };
        let (task, event) = Task::create(user("owner"), new, at(now));
        let bytes = |task: &Task| serde_json::to_vec(task).unwrap();
        let kept: Envelope = serde_json::from_slice(&serde_json::to_vec(&event).unwrap()).unwrap();
        prop_assert_eq!(bytes(&Task::from_event(&kept).unwrap()), bytes(&task));
    }
}
