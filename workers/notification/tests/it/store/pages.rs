//! Lists, page by page.

use super::*;

pub(super) async fn pages_are_stable_and_filters_hold(store: Store) {
    let owner = UserId::new();
    let mut tasks: Vec<_> = (0..3).map(|_| Task::of(&owner)).collect();
    // Three notifications with the same time: only their ids differ.
    tasks
        .iter_mut()
        .for_each(|task| task.born = jiff::Timestamp::UNIX_EPOCH);
    let list = async |filter: Filter, after: Option<Cursor>| {
        let page = PageRequest { limit: 1, after };
        store
            .list(&owner, filter, &page)
            .await
            .expect("the store is there")
    };
    for task in &tasks {
        // Applied at their own time, they are within the retention.
        let events = [task.store_event(1), task.store_event(2)];
        store
            .apply(&events, task.born)
            .await
            .expect("the store is there");
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let found = list(Filter::default(), after).await;
        let Some(first) = found.first() else { break };
        seen.push(first.content.id.clone());
        after = Some(Cursor {
            created_at: first.content.created_at,
            id: first.content.id.to_string(),
        });
        // A new notification before the cursor does not move those after it.
        apply(&store, &Task::of(&owner), &[1]).await;
        if found.len() == 1 {
            break;
        }
    }
    assert_eq!(seen.len(), 6);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 6);

    let created = Filter {
        kind: Some(Kind::Created),
        read: None,
    };
    assert_eq!(list(created, None).await[0].content.kind, Kind::Created);
    let deleted = Filter {
        kind: Some(Kind::Deleted),
        read: None,
    };
    assert_eq!(list(deleted, None).await, []);
    store
        .set_read(&owner, &seen[0], true, Expected::ANY)
        .await
        .expect("the store is there");
    let read = Filter {
        kind: None,
        read: Some(true),
    };
    let found = list(read, None).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].content.id, seen[0]);
    let none = Filter {
        kind: Some(Kind::Created),
        read: Some(true),
    };
    assert_eq!(list(none, None).await, []);
}

pub(super) async fn a_cursor_outlives_its_notification_and_fits_every_filter(store: Store) {
    let task = Task::new();
    apply(&store, &task, &[1, 2, 3, 4, 6]).await;
    let list = async |filter, after: &Notification| {
        let after = Some(Cursor {
            created_at: after.content.created_at,
            id: after.content.id.to_string(),
        });
        let page = PageRequest { limit: 10, after };
        let found = store.list(&task.owner, filter, &page).await;
        let found = found.expect("the store is there");
        found
            .iter()
            .map(|n| n.content.task_version)
            .collect::<Vec<_>>()
    };
    let found = store
        .since(&task.owner, 0, 10)
        .await
        .expect("the store is there");
    let [first, _, third, ..] = &found[..] else {
        panic!("{found:?}")
    };
    let (unread, created) = (
        Filter {
            read: Some(false),
            kind: None,
        },
        Filter {
            read: None,
            kind: Some(Kind::Created),
        },
    );
    assert_eq!(list(Filter::default(), third).await, [2, 1]);
    store
        .delete(&task.owner, &third.content.id, Expected::ANY)
        .await
        .expect("the store is there");
    // A late notification appears in its place, here before the cursor.
    apply(&store, &task, &[5]).await;
    assert_eq!(list(Filter::default(), third).await, [2, 1]);
    // A filter only leaves out notifications; it does not move them.
    assert_eq!(list(created, third).await, [1]);
    store
        .set_read(&task.owner, &first.content.id, true, Expected::ANY)
        .await
        .expect("the store is there");
    assert_eq!(list(unread, third).await, [2]);
    assert!(list(unread, first).await.is_empty());
}
