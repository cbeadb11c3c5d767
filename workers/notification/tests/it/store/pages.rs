//! Lists, page by page.

use super::*;

pub(super) async fn pages_are_stable_and_filters_hold(store: Store) {
    let owner = UserId::new();
    let mut tasks: Vec<_> = (0..3).map(|_| Task::of(&owner)).collect();
    // Three notifications of one time: only the id tells them apart.
    tasks
        .iter_mut()
        .for_each(|task| task.born = jiff::Timestamp::UNIX_EPOCH);
    let list = async |filter: Filter, after: Option<Key>| {
        let page = PageRequest { limit: 1, after };
        store
            .list(&owner, filter, &page)
            .await
            .expect("the store is there")
    };
    for task in &tasks {
        // Read at their time, they are young.
        let entries = [task.entry(1), task.entry(2)];
        store
            .apply(&entries, task.born)
            .await
            .expect("the store is there");
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let found = list(Filter::default(), after).await;
        let Some(first) = found.first() else { break };
        seen.push(first.notice.id.clone());
        after = Some(Key {
            created_at: first.notice.created_at,
            id: first.notice.id.to_string(),
        });
        // What comes before the cursor moves nothing behind it.
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
    assert_eq!(list(created, None).await[0].notice.kind, Kind::Created);
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
    assert_eq!(found[0].notice.id, seen[0]);
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
        let after = Some(Key {
            created_at: after.notice.created_at,
            id: after.notice.id.to_string(),
        });
        let page = PageRequest { limit: 10, after };
        let found = store.list(&task.owner, filter, &page).await;
        let found = found.expect("the store is there");
        found
            .iter()
            .map(|n| n.notice.task_version)
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
        .delete(&task.owner, &third.notice.id, Expected::ANY)
        .await
        .expect("the store is there");
    // One that comes late stands in its place, before the cursor and behind it.
    apply(&store, &task, &[5]).await;
    assert_eq!(list(Filter::default(), third).await, [2, 1]);
    // A filter leaves out; it moves nothing.
    assert_eq!(list(created, third).await, [1]);
    store
        .set_read(&task.owner, &first.notice.id, true, Expected::ANY)
        .await
        .expect("the store is there");
    assert_eq!(list(unread, third).await, [2]);
    assert!(list(unread, first).await.is_empty());
}
