//! Live streams send every notification once, in the user's sequence, on any replica.

use std::time::Duration;

use contract::id::UserId;
use contract::identity::TOKEN_EXPIRES;
use events::bus::Bus;
use jiff::Timestamp;
use notifications::domain::Event;
use notifications::live::{HEARTBEAT, Hub, Stream};
use runtime::supervise::CancellationToken;
use serde_json::json;
use testkit::{EventStream, NoEvent, Signed, eventually, free_port};

use crate::fixture::{Fixture, SOON, Task, deleted, events};

const STREAM: &str = "/api/notifications/stream";

async fn resume(user: &Signed, last_event_id: impl ToString) -> EventStream {
    let request = user
        .get(STREAM)
        .header("last-event-id", last_event_id.to_string());
    request.sse().await
}

/// The sequence numbers of the next events.
async fn take(stream: &mut EventStream, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = stream.next().await;
        assert_eq!(event.event.as_deref(), Some("notification"));
        let id = event.id.expect("an id");
        ids.push(id.parse().expect("a number"));
    }
    ids
}

#[tokio::test]
async fn a_notification_arrives_while_the_stream_is_open() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker().await;
    let task = Task::new();
    let user = worker.http.as_user(task.owner.as_str());
    fixture
        .store()
        .await
        .apply(&[task.store_event(1)], task.born)
        .await
        .unwrap();

    let mut stream = user.get(STREAM).sse().await;
    let header = |name| stream.headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-accel-buffering"), "no");
    // Notifications from before the stream are not sent.
    fixture.publish(&[task.event(2)]).await;
    let event = stream.next().await;
    assert_eq!(event.id.as_deref(), Some("2"));
    assert_eq!(event.event.as_deref(), Some("notification"));
    let id = event.json()["id"].as_str().unwrap().to_owned();
    let found = user
        .get(&format!("/api/notifications/{id}"))
        .send()
        .await
        .expect(200);
    assert_eq!(event.json(), found.json());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_on_another_replica_without_gap_or_duplicate() {
    const EVENTS: u64 = 120;
    let fixture = Fixture::new().await;
    let replicas = [fixture.worker().await, fixture.worker().await];
    let task = Task::new();
    let publishing = async {
        for version in 1..=EVENTS {
            fixture.publish(&[task.event(version)]).await;
        }
    };
    let following = async {
        let mut seen: Vec<u64> = Vec::new();
        for turn in 0.. {
            let user = replicas[turn % 2].http.as_user(task.owner.as_str());
            let mut stream = resume(&user, seen.last().copied().unwrap_or(0)).await;
            let rest = EVENTS as usize - seen.len();
            seen.extend(take(&mut stream, rest.min(17)).await);
            if seen.len() == EVENTS as usize {
                break;
            }
        }
        seen
    };
    let ((), seen) = tokio::join!(publishing, following);
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
}

/// Applies a task's first event without a hint, as a worker does that dies in between. `wake` must wake
/// the stream long before the next heartbeat.
async fn is_woken_by(wake: impl AsyncFnOnce(&Fixture, &Task)) {
    let fixture = Fixture::new().await;
    let worker = fixture.worker().await;
    let task = Task::new();
    let user = worker.http.as_user(task.owner.as_str());
    let mut stream = resume(&user, 0).await;
    let store = fixture.store().await;
    store
        .apply(&[task.store_event(1)], task.born)
        .await
        .expect("applied");
    wake(&fixture, &task).await;
    let event = stream
        .next_within(HEARTBEAT / 2)
        .await
        .expect("woken before the heartbeat");
    assert_eq!(event.id.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_a_worker_applied_and_died_before_it_told_is_told_when_it_comes_again() {
    is_woken_by(async |fixture, task| fixture.publish(&[task.event(1)]).await).await;
}

#[tokio::test]
async fn a_hint_that_nobody_can_read_wakes_everybody() {
    is_woken_by(async |fixture, _| {
        let other_version = "of another version".into();
        fixture.bus().hint(other_version).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_client_that_got_nothing_yet_knows_where_to_resume() {
    let store = Fixture::new().await.store().await;
    let task = Task::new();
    store
        .apply(&[task.store_event(1)], task.born)
        .await
        .unwrap();
    let hub = Hub::new(prometheus::IntGauge::new("streams", "…").unwrap());
    let permit = hub.open(&task.owner).unwrap();
    let ends = tokio::time::Instant::now() + SOON;
    let mut stream = Stream::open(store.clone(), permit, None, ends, CancellationToken::new())
        .await
        .unwrap();
    let greeting = stream.next().await.unwrap();
    // An id without data: the client remembers it, but it is not an event.
    assert!(greeting.ends_with(b"\nid: 1\n\n"), "{greeting:?}");
    // Nothing is lost between the greeting and the first read of the store, even without a hint.
    store
        .apply(&[task.store_event(2)], task.born)
        .await
        .unwrap();
    assert!(
        stream
            .next()
            .await
            .unwrap()
            .starts_with(b"id: 2\nevent: notification\n")
    );
}

#[tokio::test]
async fn a_reset_comes_with_its_id_or_not_at_all() {
    let store = Fixture::new().await.store().await;
    let task = Task::new();
    store
        .apply(&[task.store_event(1)], task.born)
        .await
        .unwrap();
    let hub = Hub::new(prometheus::IntGauge::new("streams", "…").unwrap());
    let permit = hub.open(&task.owner).unwrap();
    let ends = tokio::time::Instant::now() + SOON;
    let unknown = Some("no number");
    let stopping = CancellationToken::new();
    let mut stream = Stream::open(store, permit, unknown, ends, stopping)
        .await
        .unwrap();
    let greeting = String::from_utf8(stream.next().await.unwrap().to_vec()).unwrap();
    // A connection that breaks in between must not leave the client with the id but without the reset.
    assert_eq!(greeting.matches("id: 1").count(), 1, "{greeting}");
    assert!(
        greeting.ends_with("id: 1\nevent: reset\ndata: {}\n\n"),
        "{greeting}"
    );
}

#[tokio::test]
async fn an_id_that_is_unknown_gets_one_reset() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker().await;
    let task = Task::new();
    let user = worker.http.as_user(task.owner.as_str());
    let store = fixture.store().await;
    store
        .apply(&[task.store_event(1)], task.born)
        .await
        .unwrap();
    for id in ["7", "x"] {
        let mut stream = resume(&user, id).await;
        let event = stream.next().await;
        assert_eq!(
            (event.event.as_deref(), event.id.as_deref()),
            (Some("reset"), Some("1"))
        );
    }
    let mut stream = resume(&user, "7").await;
    stream.next().await;
    fixture.publish(&events(&task, 2..=2)).await;
    assert_eq!(take(&mut stream, 1).await, [2]);
}

#[tokio::test]
async fn a_silent_stream_says_every_quarter_minute_that_it_lives() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker().await;
    let (_, user) = worker.http.as_somebody();
    let mut stream = user.get(STREAM).sse().await;
    let silence = stream.next_within(HEARTBEAT + HEARTBEAT / 2).await;
    assert_eq!(silence, Err(NoEvent::Silence));
    // One in the greeting, and one heartbeat.
    assert_eq!(stream.comments(), 2);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker().await;
    let (_, user) = worker.http.as_somebody();
    let expires = Timestamp::now().as_second() + 2;
    let user = user.with(&TOKEN_EXPIRES, expires.to_string());
    let mut stream = user.get(STREAM).sse().await;
    assert_eq!(stream.next_within(SOON).await, Err(NoEvent::Ended));
    assert!(Timestamp::now().as_second() >= expires);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_after_every_kill_without_gap_or_duplicate() {
    const EVENTS: u64 = 60;
    let fixture = Fixture::new().await;
    let port = free_port();
    let mut worker = fixture.process_on(port);
    let task = Task::new();
    let user = Signed::new(format!("http://127.0.0.1:{port}")).as_user(task.owner.as_str());
    let publishing = async {
        for version in 1..=EVENTS {
            fixture.publish(&[task.event(version)]).await;
        }
    };
    let following = async {
        let mut seen: Vec<u64> = Vec::new();
        while seen.len() < EVENTS as usize {
            eventually(SOON, async || {
                let reply = user.unsigned().get("/readyz").try_send().await;
                reply.is_ok_and(|reply| reply.status == 200)
            })
            .await;
            let mut stream = resume(&user, seen.last().copied().unwrap_or(0)).await;
            let rest = EVENTS as usize - seen.len();
            seen.extend(take(&mut stream, rest.min(20)).await);
            worker.kill9();
            worker.start_again();
        }
        seen
    };
    let ((), seen) = tokio::join!(publishing, following);
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_a_deleted_user_end_on_every_replica() {
    let fixture = Fixture::new().await;
    let replicas = [fixture.worker().await, fixture.worker().await];
    let (leaver, other) = (UserId::new(), Task::new());
    let mut streams = Vec::new();
    for replica in &replicas {
        let user = replica.http.as_user(leaver.as_str());
        streams.push(user.get(STREAM).sse().await);
    }
    let reader = replicas[1].http.as_user(other.owner.as_str());
    let mut others = resume(&reader, 0).await;
    // The streams end long before the next heartbeat.
    fixture.publish(&[deleted(&leaver)]).await;
    for stream in &mut streams {
        let ended = stream.next_within(HEARTBEAT / 2).await;
        assert_eq!(ended, Err(NoEvent::Ended));
    }
    fixture.publish(&[other.event(1)]).await;
    assert_eq!(take(&mut others, 1).await, [1]);
    // A token may stay valid for a moment after its account is deleted: a new stream ends at once.
    let user = replicas[0].http.as_user(leaver.as_str());
    let ended = user
        .get(STREAM)
        .sse()
        .await
        .next_within(HEARTBEAT / 2)
        .await;
    assert_eq!(ended, Err(NoEvent::Ended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_is_dropped_and_can_resume() {
    // More than the socket buffers of both sides hold.
    const ALL: i64 = 3_000;
    let fixture = Fixture::new().await;
    let worker = fixture.worker().await;
    let task = Task::new();
    let store = fixture.store().await;
    let Event::Task(mut notifications) = task.store_event(1) else {
        panic!("a task event is expected")
    };
    notifications.notifications[0].title = "x".repeat(10_000);
    store
        .apply(&[Event::Task(notifications)], task.born)
        .await
        .unwrap();
    fixture.multiply(&task.owner, ALL).await;

    let user = worker.http.as_user(task.owner.as_str());
    let mut stream = resume(&user, 0).await;
    let open = async |count: u32| {
        let metrics = user.unsigned().get("/metrics").send().await.text();
        metrics.contains(&format!("\nsse_streams {count}\n"))
    };
    assert!(open(1).await);
    eventually(2 * SOON, async || open(0).await).await;
    let mut seen = 0;
    while let Ok(event) = stream.next_within(SOON).await {
        seen += 1;
        assert_eq!(event.id, Some(seen.to_string()));
    }
    assert!(seen < ALL, "everything fitted into the buffers");
    let mut stream = resume(&user, seen).await;
    assert_eq!(
        take(&mut stream, 2).await,
        [seen + 1, seen + 2].map(i64::unsigned_abs)
    );
}

#[tokio::test]
async fn a_ninth_stream_is_refused_until_one_ends() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker().await;
    let (_, user) = worker.http.as_somebody();
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(user.get(STREAM).sse().await);
    }
    let refused = user.get(STREAM).send().await.expect(429);
    assert_eq!(refused.json()["type"], json!("/problems/rate-limited"));
    assert!(refused.header("retry-after").is_some());
    streams.pop();
    eventually(SOON, async || {
        let reply = user.head(STREAM).send().await;
        reply.status == 200
    })
    .await;
}

#[tokio::test]
async fn streams_end_when_the_worker_drains() {
    let fixture = Fixture::new().await;
    let mut worker = fixture.worker().await;
    let (_, user) = worker.http.as_somebody();
    let mut stream = user.get(STREAM).sse().await;
    worker.shutdown.cancel();
    assert_eq!(stream.next_within(SOON).await, Err(NoEvent::Ended));
    drop((stream, user));
    let drained = tokio::time::timeout(Duration::from_secs(10), &mut worker.task).await;
    drained.expect("drained within 10 s").unwrap().unwrap();
}
