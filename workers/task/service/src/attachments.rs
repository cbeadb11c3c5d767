//! Stores the files of tasks and removes them.
//!
//! No task may list a file that is not durable, and no file may stay that no task lists. The order of
//! the steps here keeps that promise of [`FileStore`]. The handlers and the eraser call
//! [`Attachments`]; [`crate::run`] keeps its removals and its sweep running.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::id::{AttachmentId, TaskId};
use jiff::Timestamp;
use runtime::env::Vars;
use runtime::error::chain;
use runtime::supervise::CancellationToken;
use runtime::time::Clock;
use stores::StoreError;
use stores::idempotency::{Digest, Hasher};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::domain::Attachment;
use crate::store::TaskStore;
use crate::store::files::{CHUNK, FileRef, FileStore};

/// The most files of one task.
pub const MAX_FILES: usize = 20;
/// The most bytes of one file, unless the configuration sets another limit.
const DEFAULT_MAX_FILE_BYTES: u64 = 1 << 30;
/// Concurrent uploads. Each holds a chunk in memory.
const MAX_UPLOADS: usize = 64;
/// How long a file stays in doubt before the sweep decides about it. This is far longer than any
/// request takes between marking a file and writing its task.
const IN_DOUBT_TIMEOUT: Duration = Duration::from_secs(300);
/// How often an upload renews the doubt about its files while it lasts.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Files that the sweep reads at a time.
const SWEEP_BATCH: usize = 100;
/// Queued removals. The sweep removes what the queue cannot hold.
const MAX_QUEUED_REMOVALS: usize = 1_024;

/// Reads `MAX_FILE_BYTES`: the most bytes of one file.
pub fn max_file_bytes(vars: &mut Vars<'_>) -> u64 {
    vars.or("MAX_FILE_BYTES", DEFAULT_MAX_FILE_BYTES)
}

/// The files of all tasks.
#[derive(Clone)]
pub struct Attachments {
    files: Arc<dyn FileStore>,
    clock: Arc<dyn Clock>,
    max_file_bytes: u64,
    uploads: Arc<Semaphore>,
    removals: Sender<Vec<FileRef>>,
    removal_queue: Arc<Mutex<Receiver<Vec<FileRef>>>>,
}

impl Attachments {
    pub fn new(files: Arc<dyn FileStore>, clock: Arc<dyn Clock>, max_file_bytes: u64) -> Self {
        let (removals, queue) = channel(MAX_QUEUED_REMOVALS);
        Self {
            files,
            clock,
            max_file_bytes,
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
            removals,
            removal_queue: Arc::new(Mutex::new(queue)),
        }
    }

    /// A permit for one upload; `None` while too many are under way.
    pub(crate) fn upload_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.uploads.clone().try_acquire_owned().ok()
    }

    /// Begins an upload of the files of a new task.
    pub(crate) fn begin_upload(&self, task: TaskId) -> Upload {
        Upload {
            attachments: self.clone(),
            task,
            files: Vec::new(),
            received: Vec::new(),
            renewed_at: self.clock.now(),
        }
    }

    /// A chunk of a task's file; `None` if there is no such file or chunk.
    pub(crate) async fn read(
        &self,
        task: &TaskId,
        id: &AttachmentId,
        index: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let (task, id) = (task.clone(), id.clone());
        self.files.read(&FileRef { task, id }, index).await
    }

    /// Marks files as in doubt. Call it before a change removes them from their task, because it
    /// depends on that change whether they stay.
    pub(crate) async fn mark_in_doubt<'a>(
        &self,
        task: &TaskId,
        files: impl IntoIterator<Item = &'a Attachment>,
    ) -> Result<Removal, StoreError> {
        let of = |file: &Attachment| FileRef {
            task: task.clone(),
            id: file.id.clone(),
        };
        let files: Vec<_> = files.into_iter().map(of).collect();
        if !files.is_empty() {
            self.files.mark_in_doubt(&files, self.clock.now()).await?;
        }
        Ok(Removal(files))
    }

    /// Queues the files to be removed. Call it when that change is durable. Returns at once.
    pub(crate) fn remove(&self, Removal(files): Removal) {
        self.enqueue_removal(files);
    }

    fn enqueue_removal(&self, files: Vec<FileRef>) {
        if !files.is_empty() && self.removals.try_send(files).is_err() {
            tracing::warn!("the queue of removals is full: the sweep will remove these files");
        }
    }

    /// Removes queued files, and sweeps regularly, until `shutdown`.
    pub(crate) async fn run(
        self,
        tasks: Arc<dyn TaskStore>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let work = async {
            self.files.prepare().await?;
            let mut queue = self.removal_queue.lock().await;
            let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                tokio::select! {
                    Some(files) = queue.recv() => {
                        if let Err(error) = self.files.remove(&files).await {
                            let error = chain(&error);
                            tracing::warn!(error, "files could not be removed: the sweep will remove them");
                        }
                    }
                    _ = sweep.tick() => self.sweep(&*tasks).await?,
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = work => failed,
        }
    }

    /// Decides about every file that has been in doubt for too long: keeps it if its task lists it, and
    /// removes it otherwise.
    pub async fn sweep(&self, tasks: &dyn TaskStore) -> Result<(), StoreError> {
        let before = self.clock.now() - IN_DOUBT_TIMEOUT;
        loop {
            let found = self.files.in_doubt(before, SWEEP_BATCH).await?;
            let (mut listed, mut unlisted) = (Vec::new(), Vec::new());
            for file in found {
                let task = tasks.get(&file.task).await?;
                match task.is_some_and(|task| task.attachment(file.id.as_str()).is_some()) {
                    true => listed.push(file),
                    false => unlisted.push(file),
                }
            }
            self.files.settle(&listed, before).await?;
            self.files.remove(&unlisted).await?;
            if !unlisted.is_empty() {
                let count = unlisted.len();
                tracing::info!(count, "removed files that no task lists");
            }
            if listed.len() + unlisted.len() < SWEEP_BATCH {
                return Ok(());
            }
        }
    }
}

/// Files in doubt that a change is about to remove from their task.
#[must_use = "the files are removed only when this is passed to `remove`"]
pub(crate) struct Removal(Vec<FileRef>);

/// The files of a task that is not stored yet. Dropping the upload removes them.
pub(crate) struct Upload {
    attachments: Attachments,
    pub(crate) task: TaskId,
    /// Every file that was begun, complete or not.
    files: Vec<FileRef>,
    /// The complete files.
    pub(crate) received: Vec<Attachment>,
    /// When the files were last marked as in doubt.
    renewed_at: Timestamp,
}

/// Why a file could not be written.
pub(crate) enum WriteFileError {
    TooLarge,
    Store(StoreError),
}

impl From<StoreError> for WriteFileError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Upload {
    pub(crate) fn max_file_bytes(&self) -> u64 {
        self.attachments.max_file_bytes
    }

    pub(crate) async fn begin_file(
        &mut self,
        name: String,
        content_type: String,
    ) -> Result<IncomingFile<'_>, StoreError> {
        let file = FileRef {
            task: self.task.clone(),
            id: AttachmentId::new(),
        };
        self.files.push(file.clone());
        let files = self.attachments.files.clone();
        files.begin(&file, self.attachments.clock.now()).await?;
        Ok(IncomingFile {
            upload: self,
            file,
            name,
            content_type,
            buffer: BytesMut::new(),
            index: 0,
            size: 0,
            hasher: Hasher::default(),
        })
    }

    /// Renews the doubt about the files so far, so that no sweep mistakes them for abandoned ones.
    async fn renew(&mut self) -> Result<(), StoreError> {
        let now = self.attachments.clock.now();
        let found = self
            .attachments
            .files
            .mark_in_doubt(&self.files, now)
            .await?;
        if found < self.files.len() {
            // This process was stopped for so long that a sweep removed its files.
            let missing = format!("{} of {} files", self.files.len() - found, self.files.len());
            return Err(StoreError::unavailable(
                "mark files in doubt",
                missing + " are gone",
            ));
        }
        self.renewed_at = now;
        Ok(())
    }

    /// The attachments that the task is to list. Call it just before writing the task.
    pub(crate) async fn ready(&mut self) -> Result<Vec<Attachment>, StoreError> {
        if !self.files.is_empty() {
            self.renew().await?;
        }
        Ok(self.received.clone())
    }

    /// Ends the doubt about the files. Call it when the task is durable. If it fails, the sweep will do
    /// it.
    pub(crate) async fn commit(mut self) {
        let files = std::mem::take(&mut self.files);
        if files.is_empty() {
            return;
        }
        let settled = self.attachments.files.settle(&files, Timestamp::MAX).await;
        if let Err(error) = settled {
            tracing::warn!(
                error = chain(&error),
                "files stay in doubt until the next sweep that finds them"
            );
        }
    }

    /// Leaves the files in doubt. Call it when it is unknown whether the task was stored: the sweep will
    /// find out.
    pub(crate) fn leave_in_doubt(mut self) {
        self.files.clear();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.attachments
            .enqueue_removal(std::mem::take(&mut self.files));
    }
}

/// A file that is being received.
pub(crate) struct IncomingFile<'a> {
    upload: &'a mut Upload,
    file: FileRef,
    name: String,
    content_type: String,
    /// Received bytes that do not fill a chunk yet.
    buffer: BytesMut,
    /// Of the next chunk.
    index: u64,
    size: u64,
    hasher: Hasher,
}

impl IncomingFile<'_> {
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<(), WriteFileError> {
        self.size += bytes.len() as u64;
        if self.size > self.upload.attachments.max_file_bytes {
            return Err(WriteFileError::TooLarge);
        }
        // Checked with every piece of the body, not with every chunk: a slow client may need longer for
        // a chunk than the doubt lasts.
        if self.upload.attachments.clock.now() > self.upload.renewed_at + RENEWAL_INTERVAL {
            self.upload.renew().await?;
        }
        self.hasher.update(&bytes);
        while self.buffer.len() + bytes.len() >= CHUNK {
            let rest = bytes.split_off(CHUNK - self.buffer.len());
            self.buffer.extend_from_slice(&bytes);
            bytes = rest;
            self.flush().await?;
        }
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let chunk = self.buffer.split().freeze();
        let files = &self.upload.attachments.files;
        files.append(&self.file, self.index, chunk).await?;
        self.index += 1;
        Ok(())
    }

    /// Returns when the file is durable, with the digest of its bytes.
    pub(crate) async fn finish(mut self) -> Result<Digest, StoreError> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        let files = &self.upload.attachments.files;
        files.finish(&self.file, self.size).await?;
        let digest = self.hasher.finish();
        self.upload.received.push(Attachment {
            id: self.file.id,
            name: self.name,
            content_type: self.content_type,
            size: self.size,
            sha256: digest.to_hex(),
        });
        Ok(digest)
    }
}
