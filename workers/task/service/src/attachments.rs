//! Takes the files of tasks in and lets them go. The order of its steps keeps the promise of
//! [`FileStore`]: no task lists a file that is not there, and no file stays that no task lists.

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

/// Files of one task.
pub const MAX_FILES: usize = 20;
/// Bytes of one file, unless the configuration says otherwise.
const DEFAULT_MAX_FILE_BYTES: u64 = 1 << 30;
/// Uploads at the same time: each holds a chunk in memory.
const UPLOADS: usize = 64;
/// How long a file may be in doubt before its task is asked. Far longer than anything takes between
/// a doubt and the write of the task.
const UNDECIDED: Duration = Duration::from_secs(300);
/// An upload doubts its files again this often, for as long as it takes.
const DOUBT_EVERY: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Files that are looked at in one go.
const AT_ONCE: usize = 100;
/// Removals that wait for their turn. What does not fit is left to the sweep.
const REMOVALS: usize = 1_024;

/// Reads `MAX_FILE_BYTES`, the largest file of a task.
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
    unwanted: Sender<Vec<FileRef>>,
    queue: Arc<Mutex<Receiver<Vec<FileRef>>>>,
}

impl Attachments {
    pub fn new(files: Arc<dyn FileStore>, clock: Arc<dyn Clock>, max_file_bytes: u64) -> Self {
        let (unwanted, queue) = channel(REMOVALS);
        Self {
            files,
            clock,
            max_file_bytes,
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            unwanted,
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    /// An upload's turn; `None` while there are too many.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.uploads.clone().try_acquire_owned().ok()
    }

    /// Receives the files of a new task.
    pub(crate) fn receive(&self, task: TaskId) -> Upload {
        Upload {
            attachments: self.clone(),
            task,
            begun: Vec::new(),
            received: Vec::new(),
            doubted_at: self.clock.now(),
        }
    }

    /// A chunk of a task's file.
    pub(crate) async fn read(
        &self,
        task: &TaskId,
        id: &AttachmentId,
        index: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let (task, id) = (task.clone(), id.clone());
        self.files.read(&FileRef { task, id }, index).await
    }

    /// Before a change takes files out of a task: what becomes of them depends on it.
    pub(crate) async fn doubt<'a>(
        &self,
        task: &TaskId,
        files: impl IntoIterator<Item = &'a Attachment>,
    ) -> Result<Leaving, StoreError> {
        let of = |file: &Attachment| FileRef {
            task: task.clone(),
            id: file.id.clone(),
        };
        let files: Vec<_> = files.into_iter().map(of).collect();
        if !files.is_empty() {
            self.files.doubt(&files, self.clock.now()).await?;
        }
        Ok(Leaving(files))
    }

    /// After that change is durable. Returns at once; the files go soon.
    pub(crate) fn remove(&self, Leaving(files): Leaving) {
        self.discard(files);
    }

    fn discard(&self, files: Vec<FileRef>) {
        if !files.is_empty() && self.unwanted.try_send(files).is_err() {
            tracing::warn!("too many files wait to be removed: these go later");
        }
    }

    /// Removes what is not wanted, and decides what has been in doubt for long, until `shutdown`.
    pub(crate) async fn run(
        self,
        tasks: Arc<dyn TaskStore>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let work = async {
            self.files.prepare().await?;
            let mut unwanted = self.queue.lock().await;
            let mut sweep = tokio::time::interval(SWEEP_EVERY);
            loop {
                tokio::select! {
                    Some(files) = unwanted.recv() => {
                        if let Err(error) = self.files.remove(&files).await {
                            let error = chain(&error);
                            tracing::warn!(error, "files were not removed: they go later");
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

    /// Asks the tasks about all files that have been in doubt for long: those that are listed stay.
    pub async fn sweep(&self, tasks: &dyn TaskStore) -> Result<(), StoreError> {
        let before = self.clock.now() - UNDECIDED;
        loop {
            let found = self.files.in_doubt(before, AT_ONCE).await?;
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
            if listed.len() + unlisted.len() < AT_ONCE {
                return Ok(());
            }
        }
    }
}

/// Files in doubt that a change is to take out of their task.
#[must_use = "the files go only when told so"]
pub(crate) struct Leaving(Vec<FileRef>);

/// The files of a task that is not there yet. Dropped, they go.
pub(crate) struct Upload {
    attachments: Attachments,
    pub(crate) task: TaskId,
    /// Everything that there is of them.
    begun: Vec<FileRef>,
    pub(crate) received: Vec<Attachment>,
    doubted_at: Timestamp,
}

/// Why a file was not taken.
pub(crate) enum NotTaken {
    TooLarge,
    Store(StoreError),
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Upload {
    pub(crate) fn max_file_bytes(&self) -> u64 {
        self.attachments.max_file_bytes
    }

    pub(crate) async fn begin(
        &mut self,
        name: String,
        content_type: String,
    ) -> Result<Receiving<'_>, StoreError> {
        let file = FileRef {
            task: self.task.clone(),
            id: AttachmentId::new(),
        };
        self.begun.push(file.clone());
        let files = self.attachments.files.clone();
        files.begin(&file, self.attachments.clock.now()).await?;
        Ok(Receiving {
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

    /// Renews the doubt about the files so far, so that no sweep takes them for left behind.
    async fn doubt(&mut self) -> Result<(), StoreError> {
        let now = self.attachments.clock.now();
        let there = self.attachments.files.doubt(&self.begun, now).await?;
        if there < self.begun.len() {
            // This process stood still for so long that its files were given up.
            let missing = format!("{} of {} files", self.begun.len() - there, self.begun.len());
            return Err(StoreError::unavailable(
                "doubt files",
                missing + " are gone",
            ));
        }
        self.doubted_at = now;
        Ok(())
    }

    /// What the task is to list, right before it is written.
    pub(crate) async fn ready(&mut self) -> Result<Vec<Attachment>, StoreError> {
        if !self.begun.is_empty() {
            self.doubt().await?;
        }
        Ok(self.received.clone())
    }

    /// The task is durable. What goes wrong here is mended by the sweep.
    pub(crate) async fn keep(mut self) {
        let files = std::mem::take(&mut self.begun);
        if files.is_empty() {
            return;
        }
        let settled = self.attachments.files.settle(&files, Timestamp::MAX).await;
        if let Err(error) = settled {
            tracing::warn!(error = chain(&error), "files stay in doubt for a while");
        }
    }

    /// Nobody knows whether the task is there: the sweep will.
    pub(crate) fn leave(mut self) {
        self.begun.clear();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.attachments.discard(std::mem::take(&mut self.begun));
    }
}

/// One file on its way.
pub(crate) struct Receiving<'a> {
    upload: &'a mut Upload,
    file: FileRef,
    name: String,
    content_type: String,
    /// Less than a chunk.
    buffer: BytesMut,
    index: u64,
    size: u64,
    hasher: Hasher,
}

impl Receiving<'_> {
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<(), NotTaken> {
        self.size += bytes.len() as u64;
        if self.size > self.upload.attachments.max_file_bytes {
            return Err(NotTaken::TooLarge);
        }
        // Here and not with each chunk: one may take a slow client longer than a doubt lasts.
        if self.upload.attachments.clock.now() > self.upload.doubted_at + DOUBT_EVERY {
            self.upload.doubt().await?;
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

    /// Answers when the file is durable, with the digest of what is in it.
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
