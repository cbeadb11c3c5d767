//! Erases deleted users from tasks: deletes the tasks they own and removes them as assignee, in
//! repeated passes until nothing more of them can be written.
//!
//! Each task is changed by the same conditional write as any other change, with its event; the eraser
//! never publishes. So several workers may erase one user at once, and a worker may be killed at any
//! point: the erasure stays due until a complete pass has been recorded. [`crate::run`] keeps the
//! eraser running, and [`crate::consumer`] wakes it.

use std::sync::Arc;
use std::time::Duration;

use contract::id::UserId;
use contract::page::{MAX_LIMIT, PageRequest};
use events::relay::RelayHandle;
use futures_util::{StreamExt, TryStreamExt, stream};
use runtime::error::chain;
use runtime::supervise::CancellationToken;
use runtime::time::Clock;
use stores::StoreError;
use tokio::sync::Notify;

use crate::attachments::Attachments;
use crate::domain::{Erased, Task};
use crate::store::{Cursor, Filter, Sort, TaskStore, WriteOutcome};

/// How often the eraser looks for erasures that have become due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Tasks of one user that are written concurrently.
const CONCURRENT_WRITES: usize = 8;
/// Pages of a user's tasks in one pass, so that no user delays the others for long.
const MAX_PAGES: usize = 10;
/// How often a pass tries to write one task when other changes keep coming first.
const MAX_ATTEMPTS: usize = 32;

pub struct Eraser {
    store: Arc<dyn TaskStore>,
    attachments: Attachments,
    relay: RelayHandle,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
}

/// What one pass over a deleted user's tasks did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ErasurePass {
    /// Tasks that need nothing more: deleted, unassigned, or changed so by another worker.
    pub erased: usize,
    /// Tasks that the next pass must try again.
    pub left: usize,
    /// Whether the pass reached the last of the user's tasks.
    pub complete: bool,
}

impl Eraser {
    /// `wake` is notified when there may be something to erase.
    pub fn new(
        store: Arc<dyn TaskStore>,
        attachments: Attachments,
        relay: RelayHandle,
        clock: Arc<dyn Clock>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            store,
            attachments,
            relay,
            clock,
            wake,
        }
    }

    /// Runs every erasure that is due, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let work = async {
            loop {
                if self.erase_once().await?.is_none() {
                    let woken = self.wake.notified();
                    tokio::time::timeout(POLL_INTERVAL, woken).await.ok();
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = work => failed,
        }
    }

    /// Makes one pass for the erasure that has been due the longest; `None` if no erasure is due.
    pub async fn erase_once(&self) -> Result<Option<ErasurePass>, StoreError> {
        let began = self.clock.now();
        let Some(erasure) = self.store.due(began).await? else {
            return Ok(None);
        };
        let user = &erasure.user_id;
        let pass = match self.pass(user).await {
            // Trying again at once would not help, and the other users must not wait for this one.
            Err(error @ StoreError::Corrupt { .. }) => {
                let error = chain(&error);
                tracing::error!(user.id = %user, error, "tasks of a deleted user cannot be read");
                ErasurePass::default()
            }
            pass => pass?,
        };
        let due_at = match pass.erased > 0 && !pass.complete {
            // After every other user who is due.
            true => Some(self.clock.now()),
            false => erasure.next(began, pass.complete && pass.left == 0),
        };
        self.store.reschedule(&erasure, due_at).await?;
        if pass.erased > 0 || pass.left > 0 || due_at.is_none() {
            let (ErasurePass { erased, left, .. }, over) = (pass, due_at.is_none());
            tracing::info!(user.id = %user, erased, left, over, "erased {erased} tasks of a deleted user");
        }
        Ok(Some(pass))
    }

    async fn pass(&self, user: &UserId) -> Result<ErasurePass, StoreError> {
        let (filter, sort) = (Filter::of(user.clone()), Sort::default());
        let mut page = PageRequest {
            limit: MAX_LIMIT,
            after: None,
        };
        let mut pass = ErasurePass::default();
        for _ in 0..MAX_PAGES {
            let tasks = self.store.list(&filter, sort, &page).await?;
            page.after = tasks.items.last().map(|task| Cursor::of(task, sort));
            let complete = tasks.next_cursor.is_none();
            let erased: Vec<bool> = stream::iter(tasks.items)
                .map(|task| self.erase(user, task))
                .buffer_unordered(CONCURRENT_WRITES)
                .try_collect()
                .await?;
            let count = erased.iter().filter(|erased| **erased).count();
            pass.erased += count;
            pass.left += erased.len() - count;
            if complete {
                pass.complete = true;
                break;
            }
        }
        Ok(pass)
    }

    /// Erases the user from a task. False if a later pass must try again.
    async fn erase(&self, user: &UserId, mut task: Task) -> Result<bool, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let written = match task.erase(user, self.clock.now()) {
                None => return Ok(true),
                Some(Erased::Deleted((task, event))) => {
                    let files = &task.attachments;
                    let removal = self.attachments.mark_in_doubt(&task.id, files).await?;
                    let written = self.store.delete(&task, &event).await?;
                    if matches!(written, WriteOutcome::Done(_)) {
                        self.attachments.remove(removal);
                    }
                    written
                }
                Some(Erased::Unassigned((task, event))) => self.store.update(&task, &event).await?,
            };
            match written {
                WriteOutcome::Done(pending) => {
                    self.relay.hint(pending);
                    return Ok(true);
                }
                WriteOutcome::Full => return Ok(false),
                WriteOutcome::Stale => match self.store.get(&task.id).await? {
                    Some(current) => task = current,
                    // Another worker or the owner has deleted it.
                    None => return Ok(true),
                },
            }
        }
        Ok(false)
    }
}
