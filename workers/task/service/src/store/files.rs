//! The port to the store of attachments, which keeps their bytes in chunks.
//!
//! A file and the task that lists it are two writes, and a process may die between them. So a file is
//! in doubt from its first write until its task is durable, and again from before a change removes it
//! from its task. The sweep decides about a file that stays in doubt: it keeps the file if the task
//! lists it, and removes it otherwise. So no listed file is lost, and no unlisted file stays.
//!
//! A file store never looks at tasks. [`crate::attachments`] calls it, and the import of an export.

use async_trait::async_trait;
use bytes::Bytes;
use contract::id::{AttachmentId, TaskId};
use jiff::Timestamp;
use stores::StoreError;

/// Bytes of every chunk of a file but the last. GridFS uses the same size.
pub const CHUNK: usize = 255 << 10;

/// A file, and the task that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileRef {
    pub task: TaskId,
    pub id: AttachmentId,
}

/// Files, each written once by one writer and never changed afterwards.
#[async_trait]
pub trait FileStore: Send + Sync + 'static {
    /// Creates indexes and whatever else the store needs. Safe to repeat.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Creates an empty file, in doubt since `now`.
    async fn begin(&self, file: &FileRef, now: Timestamp) -> Result<(), StoreError>;

    /// Appends the chunk with this index. Each chunk is appended once, in order.
    async fn append(&self, file: &FileRef, index: u64, chunk: Bytes) -> Result<(), StoreError>;

    /// Returns when the file is durable. Fails if the file is incomplete.
    async fn finish(&self, file: &FileRef, size: u64) -> Result<(), StoreError>;

    /// A chunk of a finished file; `None` if there is no such file or chunk.
    async fn read(&self, file: &FileRef, index: u64) -> Result<Option<Bytes>, StoreError>;

    /// Marks files as in doubt since `now`, even those that are in doubt already. Returns how many of
    /// them exist.
    async fn mark_in_doubt(&self, files: &[FileRef], now: Timestamp) -> Result<usize, StoreError>;

    /// Ends the doubt about files that have been in doubt since before `before`: their task lists them.
    /// A doubt that was renewed at `before` or later remains.
    async fn settle(&self, files: &[FileRef], before: Timestamp) -> Result<(), StoreError>;

    /// Removes files. A file that does not exist is no error.
    async fn remove(&self, files: &[FileRef]) -> Result<(), StoreError>;

    /// At most `limit` files that have been in doubt since before `before`.
    async fn in_doubt(&self, before: Timestamp, limit: usize) -> Result<Vec<FileRef>, StoreError>;
}
