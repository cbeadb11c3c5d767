use std::sync::Mutex as StdMutex;

use async_trait::async_trait;
use bytes::Bytes;
use contract::event::{Envelope, EventType};
use runtime::time::SystemClock;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::bus::{Hints, Queue, Subscription, Topology};
use crate::outbox::Backlog;

/// An outbox in memory.
#[derive(Default)]
struct Memory {
    pending: StdMutex<Vec<Pending>>,
    /// Whether another process sweeps it.
    swept_elsewhere: StdMutex<bool>,
    marking: watch::Sender<Marking>,
}

/// What marking events as published does.

#[derive(Default, Clone, Copy, PartialEq)]
enum Marking {
    #[default]
    Works,
    Hangs,
    Fails,
}

#[async_trait]
impl Outbox for Memory {
    async fn pending(&self, older: Timestamp, limit: usize) -> Result<Vec<Pending>, StoreError> {
        let all = self.pending.lock().unwrap();
        let old = all.iter().filter(|pending| pending.event.time < older);
        Ok(old.take(limit).cloned().collect())
    }

    async fn mark_published(&self, published: &[Pending]) -> Result<(), StoreError> {
        let mut marking = self.marking.subscribe();
        let marking = marking.wait_for(|marking| *marking != Marking::Hangs).await;
        if *marking.unwrap() == Marking::Fails {
            return Err(StoreError::unavailable("mark", "away"));
        }
        self.pending
            .lock()
            .unwrap()
            .retain(|pending| !published.contains(pending));
        Ok(())
    }

    async fn claim_sweep(&self, _: &str, _: Duration) -> Result<bool, StoreError> {
        Ok(!*self.swept_elsewhere.lock().unwrap())
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        Ok(Backlog {
            subjects: self.pending.lock().unwrap().len() as u64,
            oldest: None,
        })
    }
}

/// A broker that refuses some events and is sometimes away.
#[derive(Default)]
struct Broker {
    taken: StdMutex<Vec<String>>,
    refused: StdMutex<HashSet<String>>,
    away: StdMutex<bool>,
}

#[async_trait]
impl Bus for Broker {
    fn name(&self) -> &'static str {
        "test"
    }

    fn topology(&self) -> &Topology {
        unreachable!("the relay asks for no queues")
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<PublishOutcome>, BusError> {
        if *self.away.lock().unwrap() {
            return Err(BusError::Unavailable("away".into()));
        }
        let refused = self.refused.lock().unwrap();
        let mut taken = self.taken.lock().unwrap();
        let outcomes = batch.iter().map(|event| match refused.contains(&event.id) {
            true => PublishOutcome::Failed("no route".to_owned()),
            false => {
                taken.push(event.id.clone());
                PublishOutcome::Confirmed
            }
        });
        Ok(outcomes.collect())
    }

    async fn subscribe(&self, _: &[Queue], _: u16) -> Result<Box<dyn Subscription>, BusError> {
        Err(BusError::Refused("not here".to_owned()))
    }

    async fn hint(&self, _: Bytes) -> Result<(), BusError> {
        unreachable!("the relay hints nobody")
    }

    async fn hints(&self) -> Result<Box<dyn Hints>, BusError> {
        unreachable!("the relay listens to nobody")
    }

    async fn dead_letters(&self) -> Result<u64, BusError> {
        unreachable!("the relay has none")
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }
}

struct World {
    outbox: Arc<Memory>,
    broker: Arc<Broker>,
    relay: Arc<Relay>,
    handle: RelayHandle,
    registry: Registry,
}

fn world() -> World {
    let (outbox, broker) = (Arc::new(Memory::default()), Arc::new(Broker::default()));
    let registry = Registry::new();
    let (relay, handle) = Relay::new(
        outbox.clone(),
        broker.clone(),
        Arc::new(SystemClock),
        &registry,
    );
    World {
        outbox,
        broker,
        relay,
        handle,
        registry,
    }
}

impl World {
    /// Commits version `version` of `task`, and returns its unpublished events, as a handler hints them.
    fn commit(&self, task: &str, version: u64) -> Vec<Pending> {
        let time = Timestamp::from_second(version as i64).unwrap();
        let event = Envelope::new(
            "/test",
            EventType::TaskUpdated,
            task,
            version,
            time,
            json!({}),
        );
        let mut all = self.outbox.pending.lock().unwrap();
        all.push(Pending { version, event });
        let mine = all.iter().filter(|pending| pending.event.subject == task);
        mine.cloned().collect()
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.broker.taken.lock().unwrap())
    }

    fn waiting(&self) -> Vec<String> {
        let all = self.outbox.pending.lock().unwrap();
        all.iter().map(|pending| pending.event.id.clone()).collect()
    }
}

#[tokio::test]
async fn overlapping_hints_publish_each_event_once_in_version_order() {
    let world = world();
    let hints = [
        world.commit("a", 1),
        world.commit("a", 2),
        world.commit("b", 1),
    ];
    let step = world
        .relay
        .relay_once(hints.into_iter().flatten())
        .await
        .unwrap();
    assert_eq!(step.published, 3);
    assert_eq!(world.taken(), ["a:1", "a:2", "b:1"]);
    assert!(world.waiting().is_empty());
}

#[tokio::test]
async fn after_a_refused_event_its_subject_waits_and_others_go_on() {
    let world = world();
    world
        .broker
        .refused
        .lock()
        .unwrap()
        .insert("a:1".to_owned());
    let hints = [
        world.commit("a", 1),
        world.commit("a", 2),
        world.commit("b", 1),
    ];
    let step = world
        .relay
        .relay_once(hints.into_iter().flatten())
        .await
        .unwrap();
    assert_eq!(step.published, 1);
    assert_eq!(world.waiting(), ["a:1", "a:2"]);

    world.broker.refused.lock().unwrap().clear();
    world.taken();
    world.relay.sweep_once(Timestamp::MAX).await.unwrap();
    assert_eq!(world.taken(), ["a:1", "a:2"]);
    assert!(world.waiting().is_empty());
}

#[tokio::test]
async fn nothing_leaves_the_outbox_while_the_broker_is_away() {
    let world = world();
    *world.broker.away.lock().unwrap() = true;
    let hint = world.commit("a", 1);
    assert!(world.relay.relay_once(hint).await.is_err());
    assert_eq!(world.waiting(), ["a:1"]);
    *world.broker.away.lock().unwrap() = false;
    let step = world.relay.sweep_once(Timestamp::MAX).await.unwrap();
    assert_eq!(step.published, 1);
    assert_eq!(world.taken(), ["a:1"]);
}

#[tokio::test]
async fn the_sweep_leaves_young_events_to_the_fast_path() {
    let world = world();
    world.commit("a", 1);
    world.commit("b", 9);
    let between = Timestamp::from_second(5).unwrap();
    assert_eq!(world.relay.sweep_once(between).await.unwrap().published, 1);
    assert_eq!(world.waiting(), ["b:9"]);
}

#[tokio::test(start_paused = true)]
async fn hints_go_out_at_once_and_the_last_ones_before_the_end() {
    let world = world();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(world.relay.clone().run(shutdown.clone()));
    world.handle.hint(world.commit("a", 9_999_999_999));
    tokio::task::yield_now().await;
    world.handle.hint(world.commit("b", 9_999_999_999));
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(world.taken(), ["a:9999999999", "b:9999999999"]);
}

#[tokio::test(start_paused = true)]
async fn what_piled_up_in_an_outage_is_published_when_it_is_over() {
    let world = world();
    *world.broker.away.lock().unwrap() = true;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(world.relay.clone().run(shutdown.clone()));
    // More than the hints hold, and more than one batch.
    for n in 0..=HINTS {
        world.handle.hint(world.commit(&format!("t{n}"), 1));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.waiting().len(), HINTS + 1);
    *world.broker.away.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.waiting().is_empty());
    assert_eq!(world.taken().len(), HINTS + 1);
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let text = String::from_utf8(runtime::telemetry::render(&world.registry)).unwrap();
    let counted = format!(
        "relay_published_total{{outcome=\"confirmed\"}} {}",
        HINTS + 1
    );
    assert!(text.contains(&counted), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_event_from_a_clock_that_runs_ahead_does_not_wait_for_it() {
    let world = world();
    // Committed by a process that then died: nobody hints it.
    world.commit("a", 99_999_999_999);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(world.relay.clone().run(shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(world.waiting().is_empty());
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_another_process_sweeps_is_left_to_it_until_it_is_gone() {
    let world = world();
    let large = BATCH + 1;
    for number in 0..large {
        world.commit(&format!("left-{number}"), 1);
    }
    *world.outbox.swept_elsewhere.lock().unwrap() = true;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(world.relay.clone().run(shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(world.waiting().len(), large);
    // An event that is hinted to this relay is published by it nevertheless.
    world.handle.hint(world.commit("b", 1));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.waiting().len(), large);

    *world.outbox.swept_elsewhere.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.waiting().is_empty());
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_one_batch_is_marked_the_next_is_published() {
    let world = world();
    world.outbox.marking.send_replace(Marking::Hangs);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(world.relay.clone().run(shutdown.clone()));
    for task in ["a", "b"] {
        world.handle.hint(world.commit(task, 9_999_999_999));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(world.taken(), ["a:9999999999", "b:9999999999"]);
    assert_eq!(world.waiting().len(), 2);
    world.outbox.marking.send_replace(Marking::Works);
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(world.waiting().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_confirmed_and_could_not_be_marked_is_marked_later_and_not_published_again() {
    let world = world();
    world.outbox.marking.send_replace(Marking::Fails);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(world.relay.clone().run(shutdown.clone()));
    world.handle.hint(world.commit("a", 1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.waiting(), ["a:1"]);
    world.outbox.marking.send_replace(Marking::Works);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.waiting().is_empty());
    assert_eq!(world.taken(), ["a:1"]);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
