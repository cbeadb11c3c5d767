//! Takes deleted users out of tasks: deletes what they own, clears them as assignee, again and again
//! until nothing of them can come any more.
//!
//! Each task goes through the same conditional write as any other change, with its event. So it
//! harms nothing that several workers erase one user at once, or that one is killed half-way: the
//! erasure stays due until a whole look has been settled.

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
use crate::store::{Filter, Key, Sort, TaskStore, Written};

/// Between two looks for erasures that have become due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Tasks that are written at the same time.
const AT_ONCE: usize = 8;
/// One look at a user's tasks goes no further, so that no user keeps the others waiting.
const PAGES: usize = 10;
/// How often one task is tried over changes that come first.
const ATTEMPTS: usize = 32;

pub struct Eraser {
    store: Arc<dyn TaskStore>,
    attachments: Attachments,
    relay: RelayHandle,
    clock: Arc<dyn Clock>,
    noted: Arc<Notify>,
}

/// What one look at a deleted user's tasks did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Tasks that were deleted or unassigned.
    pub erased: usize,
    /// Tasks that must be tried again later.
    pub left: usize,
    /// Whether it came to the last of the user's tasks.
    pub whole: bool,
}

impl Eraser {
    /// `noted` is notified when there may be something to do.
    pub fn new(
        store: Arc<dyn TaskStore>,
        attachments: Attachments,
        relay: RelayHandle,
        clock: Arc<dyn Clock>,
        noted: Arc<Notify>,
    ) -> Self {
        Self {
            store,
            attachments,
            relay,
            clock,
            noted,
        }
    }

    /// Erases whatever is due, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let work = async {
            loop {
                if self.erase_once().await?.is_none() {
                    let noted = self.noted.notified();
                    tokio::time::timeout(LOOK_EVERY, noted).await.ok();
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = work => failed,
        }
    }

    /// One look at the tasks of the user who has been due for longest; `None` when nobody is.
    pub async fn erase_once(&self) -> Result<Option<Look>, StoreError> {
        let began = self.clock.now();
        let Some(erasure) = self.store.due(began).await? else {
            return Ok(None);
        };
        let user = &erasure.user_id;
        let look = match self.look(user).await {
            // Waiting does not mend it, and the other users must not wait for it.
            Err(error @ StoreError::Corrupt { .. }) => {
                let error = chain(&error);
                tracing::error!(user.id = %user, error, "tasks of a deleted user cannot be read");
                Look::default()
            }
            look => look?,
        };
        let due_at = match look.erased > 0 && !look.whole {
            // Behind whoever else is due.
            true => Some(self.clock.now()),
            false => erasure.next(began, look.whole && look.left == 0),
        };
        self.store.settle(&erasure, due_at).await?;
        if look.erased > 0 || look.left > 0 || due_at.is_none() {
            let (Look { erased, left, .. }, over) = (look, due_at.is_none());
            tracing::info!(user.id = %user, erased, left, over, "erased {erased} tasks of a deleted user");
        }
        Ok(Some(look))
    }

    async fn look(&self, user: &UserId) -> Result<Look, StoreError> {
        let (filter, sort) = (Filter::of(user.clone()), Sort::default());
        let mut page = PageRequest {
            limit: MAX_LIMIT,
            after: None,
        };
        let mut look = Look::default();
        for _ in 0..PAGES {
            let tasks = self.store.list(&filter, sort, &page).await?;
            page.after = tasks.items.last().map(|task| Key::of(task, sort));
            let whole = tasks.next_cursor.is_none();
            let erased: Vec<bool> = stream::iter(tasks.items)
                .map(|task| self.erase(user, task))
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            let count = erased.iter().filter(|erased| **erased).count();
            look.erased += count;
            look.left += erased.len() - count;
            if whole {
                look.whole = true;
                break;
            }
        }
        Ok(look)
    }

    /// Takes the user out of a task. False when that must be tried again later.
    async fn erase(&self, user: &UserId, mut task: Task) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let written = match task.erase(user, self.clock.now()) {
                None => return Ok(true),
                Some(Erased::Deleted((task, event))) => {
                    let files = &task.attachments;
                    let leaving = self.attachments.doubt(&task.id, files).await?;
                    let written = self.store.delete(&task, &event).await?;
                    if matches!(written, Written::Done(_)) {
                        self.attachments.remove(leaving);
                    }
                    written
                }
                Some(Erased::Unassigned((task, event))) => self.store.update(&task, &event).await?,
            };
            match written {
                Written::Done(pending) => {
                    self.relay.hint(pending);
                    return Ok(true);
                }
                Written::Full => return Ok(false),
                Written::Stale => match self.store.get(&task.id).await? {
                    Some(now) => task = now,
                    // Another worker, or the owner.
                    None => return Ok(true),
                },
            }
        }
        Ok(false)
    }
}
