//! The relay: takes committed events from the outbox to the bus. Nobody else publishes.
//!
//! A handler hints what it has just committed, and the relay publishes that at once. The sweeper finds in
//! the outbox what a full hint channel, a crash or an outage left behind. So a hint may be lost and an
//! event may be published twice, but no event is lost: it leaves the outbox only after the broker has
//! confirmed it and the history keeps it.
//!
//! The events of one subject are published in version order. When one fails, the later ones stay in the
//! outbox with it, even if the broker has confirmed them.

mod metrics;
mod recent;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::Registry;
use runtime::error::chain;
use runtime::time::Clock;
use stores::StoreError;
use tokio::sync::{Mutex, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::metrics::Metrics;
use self::recent::Recent;
use crate::bus::{Bus, BusError, PublishOutcome};
use crate::fail_point::fail_point;
use crate::outbox::{Outbox, Pending};
use crate::pace::Pace;

/// Events in one publish, and in one read of the outbox.
const BATCH: usize = 512;
/// Hints that wait while the relay is busy; more are dropped, and found by the sweeper.
const HINTS: usize = 1_024;
/// The least time between two batches under load; [`IN_A_ROW`] batches may begin without it.
const PACE: Duration = Duration::from_millis(10);
const IN_A_ROW: u32 = 10;
/// The least time between two marks. Nobody waits for a mark and each costs the store two commits, so
/// marks are rarer and larger than publishes.
const MARK_PACE: Duration = Duration::from_millis(100);
/// Confirmed batches that may wait while another is being marked; beyond it publishing waits.
const WAITING_MARKS: usize = 8;
/// The sweeper leaves younger events to the fast path.
const SWEEP_AFTER: Duration = Duration::from_secs(2);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a relay holds the sweep after each claim. When it dies, another one takes over after this time.
const SWEEP_CLAIM: Duration = Duration::from_secs(3);
/// One sweep in this many reads events of any age, because their times come from another machine's clock.
const ANY_AGE_EVERY: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long hints may still be published after shutdown; the outbox keeps the rest.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Why a step of the relay ended early. What it had not done is still in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("events cannot be published")]
    Bus(#[from] BusError),
    #[error("the outbox cannot be read or marked")]
    Outbox(#[from] StoreError),
}

/// What one step did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Events that the outbox or the hints held.
    pub found: usize,
    /// Those that the broker confirmed and that left the outbox.
    pub published: usize,
}

/// Hints to the relay which events were just committed. A handler knows nothing else of the relay and the bus.
#[derive(Clone)]
pub struct RelayHandle(mpsc::Sender<Vec<Pending>>);

impl RelayHandle {
    /// Never waits. `pending` is every unpublished event of one subject, in version order.
    pub fn hint(&self, pending: Vec<Pending>) {
        // A full or closed channel loses nothing: the sweeper finds the events in the outbox.
        if self.0.try_send(pending).is_err() {
            tracing::debug!("the relay is busy; the sweeper will find these events");
        }
    }
}

pub struct Relay {
    outbox: Arc<dyn Outbox>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// The name under which this relay claims the sweep.
    name: String,
    /// Published events that a waiting hint may still name; they are not published again.
    recent: std::sync::Mutex<Recent>,
    /// Locked by [`Relay::run`] alone.
    hints: Mutex<mpsc::Receiver<Vec<Pending>>>,
}

impl Relay {
    pub fn new(
        outbox: Arc<dyn Outbox>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> (Arc<Self>, RelayHandle) {
        let (sender, hints) = mpsc::channel(HINTS);
        let relay = Self {
            outbox,
            bus,
            clock,
            metrics: Metrics::new(registry),
            name: uuid::Uuid::now_v7().to_string(),
            recent: std::sync::Mutex::default(),
            hints: Mutex::new(hints),
        };
        (Arc::new(relay), RelayHandle(sender))
    }

    /// Relays until `shutdown`. In an outage of the bus or of the outbox the relay pauses and tries again;
    /// after it, the relay publishes the backlog before it listens to hints again.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut hints = self.hints.lock().await;
        while let Err(error) = self.follow(&mut hints, &shutdown).await {
            tracing::warn!(error = chain(&error), "events wait in the outbox");
            if !self.recover(&mut hints, &shutdown).await {
                break;
            }
            tracing::info!("events are published again");
        }
        Ok(())
    }

    /// Publishes hints as they come and sweeps in between. Confirmed events are marked in the outbox while
    /// the next batch is being published.
    async fn follow(
        &self,
        hints: &mut mpsc::Receiver<Vec<Pending>>,
        shutdown: &CancellationToken,
    ) -> Result<(), RelayError> {
        let (confirmed, marks) = mpsc::channel(WAITING_MARKS);
        tokio::try_join!(
            self.publish_hints(hints, confirmed, shutdown),
            self.mark_all(marks),
        )?;
        Ok(())
    }

    /// Marks confirmed events. Batches that are confirmed before the next turn are marked together.
    async fn mark_all(
        &self,
        mut confirmed: mpsc::Receiver<Vec<Pending>>,
    ) -> Result<(), RelayError> {
        let mut pace = Pace::new(MARK_PACE, IN_A_ROW);
        while let Some(mut batch) = confirmed.recv().await {
            let mut turn = std::pin::pin!(pace.turn());
            while batch.len() < BATCH {
                tokio::select! {
                    () = &mut turn => break,
                    more = confirmed.recv() => match more {
                        Some(more) => batch.extend(more),
                        None => break,
                    }
                }
            }
            self.mark(&batch).await?;
        }
        Ok(())
    }

    async fn publish_hints(
        &self,
        hints: &mut mpsc::Receiver<Vec<Pending>>,
        confirmed: mpsc::Sender<Vec<Pending>>,
        shutdown: &CancellationToken,
    ) -> Result<(), RelayError> {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        let mut sweeps = 0_u32;
        let mut pace = Pace::new(PACE, IN_A_ROW);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    hints.close();
                    while let Ok(more) = hints.try_recv() {
                        batch.push(more);
                    }
                    let last = self.relay_once(batch.into_iter().flatten());
                    // If this takes too long, the next process's sweeper publishes the rest.
                    return tokio::time::timeout(LAST_FLUSH, last).await.map_or(Ok(()), |r| r.map(drop));
                }
                // More hints join the batch until its turn comes.
                _ = hints.recv_many(&mut batch, BATCH) => {
                    pace.turn().await;
                    while batch.len() < BATCH && let Ok(more) = hints.try_recv() {
                        batch.push(more);
                    }
                    let events = self.in_order(batch.drain(..).flatten());
                    let mut stopped = HashSet::new();
                    for part in events.chunks(BATCH) {
                        let done = self.publish(part, &mut stopped).await?;
                        if confirmed.send(done).await.is_err() {
                            // Marking has failed, which ends this too.
                            return Ok(());
                        }
                    }
                }
                _ = sweep.tick() => {
                    let swept = self.sweep(self.clock.now() - SWEEP_AFTER, shutdown).await?;
                    sweeps += 1;
                    if swept && sweeps.is_multiple_of(ANY_AGE_EVERY) {
                        self.sweep_once(Timestamp::MAX).await?;
                    }
                }
            }
        }
    }

    /// Waits until the outage is over and its backlog is published. False if `shutdown` came first.
    async fn recover(
        &self,
        hints: &mut mpsc::Receiver<Vec<Pending>>,
        shutdown: &CancellationToken,
    ) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            // Every event that was hinted so far is in the outbox, with a time before this.
            let until = self.clock.now();
            while hints.try_recv().is_ok() {}
            // A relay that may not sweep must know nevertheless that the broker answers.
            let recovered = match self.bus.ping().await {
                Ok(()) => self.sweep(until, shutdown).await,
                Err(error) => Err(error.into()),
            };
            match recovered {
                Ok(_) => return !shutdown.is_cancelled(),
                Err(error) => tracing::debug!(error = chain(&error), "still not publishing"),
            }
        }
    }

    /// Sweeps without a pause until nothing older than `older_than` is left, or nothing can be published.
    /// Returns false, and does nothing, if the backlog is large and another process sweeps it.
    async fn sweep(
        &self,
        older_than: Timestamp,
        shutdown: &CancellationToken,
    ) -> Result<bool, RelayError> {
        let backlog = self.outbox.backlog().await?;
        self.metrics.backlog(&backlog, self.clock.now());
        // A small backlog is swept without a claim. It may be published twice, but need not wait for another
        // process's claim to end.
        let large = backlog.subjects > BATCH as u64;
        while !shutdown.is_cancelled() {
            if large && !self.outbox.claim_sweep(&self.name, SWEEP_CLAIM).await? {
                return Ok(false);
            }
            if self.sweep_once(older_than).await?.published == 0 {
                break;
            }
        }
        Ok(true)
    }

    /// Reads the outbox once, and publishes the oldest events that are older than `older_than`.
    pub async fn sweep_once(&self, older_than: Timestamp) -> Result<Step, RelayError> {
        let pending = self.outbox.pending(older_than, BATCH).await?;
        self.publish_all(pending).await
    }

    /// Publishes hinted events, and marks the confirmed ones.
    pub async fn relay_once(
        &self,
        hinted: impl IntoIterator<Item = Pending>,
    ) -> Result<Step, RelayError> {
        self.publish_all(self.in_order(hinted)).await
    }

    /// Orders events by subject and version. Hints of one subject overlap, because each holds all events that
    /// were pending when it was made.
    fn in_order(&self, hinted: impl IntoIterator<Item = Pending>) -> Vec<Pending> {
        let mut by_subject: BTreeMap<String, BTreeMap<u64, Pending>> = BTreeMap::new();
        for pending in hinted {
            if !self.recent().contains(&pending.event.id) {
                let versions = by_subject.entry(pending.event.subject.clone()).or_default();
                versions.insert(pending.version, pending);
            }
        }
        let subjects = by_subject.into_values();
        subjects.flat_map(BTreeMap::into_values).collect()
    }

    /// Publishes and marks events. Those of one subject must be in version order.
    async fn publish_all(&self, events: Vec<Pending>) -> Result<Step, RelayError> {
        let mut step = Step {
            found: events.len(),
            published: 0,
        };
        let mut stopped: HashSet<String> = HashSet::new();
        for part in events.chunks(BATCH) {
            let confirmed = self.publish(part, &mut stopped).await?;
            self.mark(&confirmed).await?;
            step.published += confirmed.len();
        }
        Ok(step)
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Publishes at most a batch, and returns the events that the broker has confirmed, now or before: they
    /// only need marking. A subject in `stopped` has an earlier event that is not published.
    async fn publish(
        &self,
        part: &[Pending],
        stopped: &mut HashSet<String>,
    ) -> Result<Vec<Pending>, RelayError> {
        let part = part
            .iter()
            .filter(|pending| !stopped.contains(&pending.event.subject));
        let (mut confirmed, part): (Vec<Pending>, Vec<Pending>) = {
            let recent = self.recent();
            part.cloned()
                .partition(|pending| recent.contains(&pending.event.id))
        };
        let envelopes: Vec<_> = part.iter().map(|pending| pending.event.clone()).collect();
        fail_point("relay.taken");
        let outcomes = match self.bus.publish(&envelopes).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.metrics.failed(part.len());
                return Err(error.into());
            }
        };
        let already = confirmed.len();
        let mut failures = Vec::new();
        for (pending, outcome) in part.into_iter().zip(outcomes) {
            let subject = &pending.event.subject;
            match outcome {
                PublishOutcome::Confirmed if !stopped.contains(subject) => confirmed.push(pending),
                PublishOutcome::Confirmed => failures.push((pending.event.id, None)),
                PublishOutcome::Failed(why) => {
                    stopped.insert(subject.clone());
                    failures.push((pending.event.id, Some(why)));
                }
            }
        }
        self.metrics.failed(failures.len());
        if let Some((id, why)) = failures.first() {
            let count = failures.len();
            tracing::warn!(
                event.id = id,
                why,
                "{count} events were not published, first `{id}`"
            );
        }
        let new = &confirmed[already..];
        self.metrics.published(new.len());
        self.recent()
            .extend(new.iter().map(|pending| &pending.event.id));
        Ok(confirmed)
    }

    /// Removes confirmed events from the outbox.
    async fn mark(&self, confirmed: &[Pending]) -> Result<(), RelayError> {
        if !confirmed.is_empty() {
            fail_point("relay.confirmed");
            // A crash before this line publishes them once more, which consumers ignore.
            self.outbox.mark_published(confirmed).await?;
        }
        Ok(())
    }
}
