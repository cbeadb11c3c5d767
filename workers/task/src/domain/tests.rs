use serde_json::Value;

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
    let (task, created) = Task::create(user("owner"), new(), at(1_000));
    let (task, updated) = task
        .change(title("x"), &user("owner"), at(2_000))
        .unwrap()
        .unwrap();
    let (_, deleted) = task.delete(&user("owner"), at(3_000)).unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (version, event) in (1..).zip([created, updated.traced(Some(trace)), deleted]) {
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
