//! Lists: which tasks they show, and that their pages fit together.

use std::cmp::Reverse;

use contract::page::{PageRequest, decode};
use tasks::domain::{NewTask, Priority, Status, Task};
use tasks::store::{Filter, Role, Sort, TaskStore};

use super::{at, first_page, insert, new, titles, user};

pub(crate) async fn a_list_shows_what_one_owns_or_is_assigned_newest_first(store: impl TaskStore) {
    let to = |title: &str, id: Option<&str>| NewTask {
        assignee_id: id.map(user),
        ..new(title)
    };
    insert(&store, "ann", to("mine", None), 1).await;
    insert(&store, "ann", to("given", Some("bob")), 3).await;
    insert(&store, "bob", to("got", Some("ann")), 2).await;
    insert(&store, "bob", to("both", Some("bob")), 4).await;
    assert_eq!(
        titles(&store, Filter::of(user("ann"))).await,
        ["given", "got", "mine"]
    );
    assert_eq!(
        titles(&store, Filter::of(user("bob"))).await,
        ["both", "given", "got"]
    );
    assert!(titles(&store, Filter::of(user("eve"))).await.is_empty());
}

pub(crate) async fn a_list_filters(store: impl TaskStore) {
    let done = NewTask {
        status: Status::Done,
        priority: Priority::High,
        ..new("done")
    };
    let tagged = NewTask {
        tags: vec!["c".into()],
        assignee_id: None,
        ..new("tagged")
    };
    insert(&store, "owner", done, 1).await;
    insert(&store, "owner", tagged, 2).await;
    insert(
        &store,
        "other",
        NewTask {
            assignee_id: Some(user("owner")),
            ..new("given")
        },
        3,
    )
    .await;
    let all = || Filter::of(user("owner"));
    let status = Filter {
        status: Some(Status::Done),
        ..all()
    };
    assert_eq!(titles(&store, status).await, ["done"]);
    let priority = Filter {
        priority: Some(Priority::High),
        ..all()
    };
    assert_eq!(titles(&store, priority).await, ["done"]);
    assert_eq!(
        titles(
            &store,
            Filter {
                tag: Some("c".into()),
                ..all()
            }
        )
        .await,
        ["tagged"]
    );
    let owner = Filter {
        role: Some(Role::Owner),
        ..all()
    };
    assert_eq!(titles(&store, owner).await, ["tagged", "done"]);
    let assignee = Filter {
        role: Some(Role::Assignee),
        ..all()
    };
    assert_eq!(titles(&store, assignee).await, ["given"]);
}

pub(crate) async fn a_list_finds_what_is_due_in_a_time(store: impl TaskStore) {
    for (title, due_at) in [("never", None), ("early", Some(10)), ("late", Some(20))] {
        let due_at = due_at.map(at);
        insert(
            &store,
            "owner",
            NewTask {
                due_at,
                ..new(title)
            },
            0,
        )
        .await;
    }
    let due = async |after: Option<i64>, before: Option<i64>| {
        let filter = Filter {
            due_after: after.map(at),
            due_before: before.map(at),
            ..Filter::of(user("owner"))
        };
        let mut by_creation = titles(&store, filter.clone()).await;
        let page = store.list(&filter, Sort::DueAsc, &first_page(100)).await;
        let by_time: Vec<_> = page.unwrap().items.into_iter().map(|t| t.title).collect();
        by_creation.reverse();
        assert_eq!(by_creation, by_time);
        by_time
    };
    assert_eq!(due(Some(10), None).await, ["early", "late"]);
    assert_eq!(due(Some(11), None).await, ["late"]);
    assert_eq!(due(None, Some(20)).await, ["early"]);
    assert_eq!(due(Some(10), Some(20)).await, ["early"]);
    assert!(due(Some(20), Some(10)).await.is_empty());
}

pub(crate) async fn a_list_finds_words_as_they_are_in_upper_or_lower_case(store: impl TaskStore) {
    let about = |title: &str, description: &str| NewTask {
        description: description.to_owned(),
        ..new(title)
    };
    insert(
        &store,
        "owner",
        about("Äpfel kaufen", "3 kg (rot)\nΣΊΣΥΦΟΣ"),
        1,
    )
    .await;
    insert(&store, "owner", about("100% a.b", "*[x]^$\\|"), 2).await;
    let found = async |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let filter = Filter {
            words,
            ..Filter::of(user("owner"))
        };
        titles(&store, filter).await
    };
    for words in [
        &["äpfel"][..],
        &["ÄPF", "ROT"],
        &["(rot)", "kaufen", "3"],
        &["σίσυφος"],
    ] {
        assert_eq!(found(words).await, ["Äpfel kaufen"], "{words:?}");
    }
    for words in [&["100%"][..], &["A.B"], &["*[X]^$\\|"], &["[", "\\"]] {
        assert_eq!(found(words).await, ["100% a.b"], "{words:?}");
    }
    for words in [
        &["äpfel", "100"][..],
        &["a.p"],
        &[".*"],
        &["[a-z]"],
        &["\\d"],
    ] {
        assert!(found(words).await.is_empty(), "{words:?}");
    }
    assert_eq!(found(&[]).await.len(), 2);
}

/// Stores tasks in no particular order, with three times of creation, three due times or none, and four
/// priorities.
async fn assorted(store: &impl TaskStore) -> Vec<Task> {
    let mut tasks = Vec::new();
    for n in 0..24_i64 {
        let task = NewTask {
            due_at: (n % 4 > 0).then(|| at(n * 7 % 3)),
            priority: Priority::ALL[(n * 5 % 4) as usize],
            ..new(&n.to_string())
        };
        tasks.push(insert(store, "owner", task, n * 11 % 3).await);
    }
    tasks
}

/// Sorts by the definition of the order.
fn sorted(mut tasks: Vec<Task>, sort: Sort) -> Vec<Task> {
    tasks.sort_by_key(|task| task.id.clone());
    let descending = sort.as_str().starts_with('-');
    if descending {
        tasks.reverse();
    }
    match sort {
        Sort::CreatedAsc => tasks.sort_by_key(|task| task.created_at),
        Sort::CreatedDesc => tasks.sort_by_key(|task| Reverse(task.created_at)),
        Sort::DueAsc => tasks.sort_by_key(|task| (task.due_at.is_none(), task.due_at)),
        Sort::DueDesc => {
            tasks.sort_by_key(|task| (task.due_at.is_none(), Reverse(task.due_at)));
        }
        Sort::PriorityAsc => tasks.sort_by_key(|task| task.priority as u8),
        Sort::PriorityDesc => tasks.sort_by_key(|task| Reverse(task.priority as u8)),
    }
    tasks
}

pub(crate) async fn every_order_is_kept_through_pages_of_any_size(store: impl TaskStore) {
    let tasks = assorted(&store).await;
    let filter = Filter::of(user("owner"));
    for sort in Sort::ALL.iter().copied() {
        let wanted = sorted(tasks.clone(), sort);
        for limit in [1, 5, 6, 24, 100] {
            let mut seen = Vec::new();
            let mut page = first_page(limit);
            loop {
                let found = store.list(&filter, sort, &page).await.unwrap();
                assert!(found.items.len() <= limit);
                seen.extend(found.items);
                let Some(cursor) = found.next_cursor else {
                    break;
                };
                page.after = Some(decode(&cursor).unwrap());
            }
            assert_eq!(seen, wanted, "{sort:?} by {limit}");
        }
    }
    let urgent = Filter {
        priority: Some(Priority::Urgent),
        ..filter
    };
    let found = store
        .list(&urgent, Sort::PriorityAsc, &first_page(100))
        .await;
    let mut wanted = sorted(tasks, Sort::PriorityAsc);
    wanted.retain(|task| task.priority == Priority::Urgent);
    assert_eq!(found.unwrap().items, wanted);
}

pub(crate) async fn pages_neither_repeat_nor_miss_while_tasks_come_and_go(store: impl TaskStore) {
    let tasks = assorted(&store).await;
    for (n, sort) in (1..).zip(Sort::ALL.iter().copied()) {
        let wanted = sorted(tasks.clone(), sort);
        let mut seen = Vec::new();
        let mut page = PageRequest {
            limit: 5,
            after: None,
        };
        loop {
            let filter = Filter::of(user("owner"));
            let found = store.list(&filter, sort, &page).await.unwrap();
            seen.extend(found.items);
            let passing = insert(&store, "owner", new("passing"), n % 3).await;
            let Some(cursor) = found.next_cursor else {
                break;
            };
            page.after = Some(decode(&cursor).unwrap());
            let (gone, event) = passing.delete(&user("owner"), at(100)).unwrap();
            store.delete(&gone, &event).await.unwrap();
            insert(&store, "owner", new("new"), n % 3).await;
        }
        seen.retain(|task| !["passing", "new"].contains(&task.title.as_str()));
        assert_eq!(seen, wanted, "{sort:?}");
    }
}
