//! The port to where the bytes of attachments are kept, in chunks.
//!
//! A file and the task that lists it are two writes, and a process may die between them. So a file is
//! in doubt from its beginning until its task is durable, and again before a change takes it out of
//! its task. What stays in doubt is decided by what the task says: nothing is lost, and nothing stays
//! that nobody can see.

use async_trait::async_trait;
use bytes::Bytes;
use contract::id::{AttachmentId, TaskId};
use jiff::Timestamp;
use stores::StoreError;

/// Bytes of every chunk of a file but the last: the chunk of GridFS.
pub const CHUNK: usize = 255 << 10;

/// A file, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileRef {
    pub task: TaskId,
    pub id: AttachmentId,
}

/// Files that are written once, by one writer, and then never change.
#[async_trait]
pub trait FileStore: Send + Sync + 'static {
    /// Makes indexes and the like. Safe to repeat.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Begins a file, in doubt since `now`.
    async fn begin(&self, file: &FileRef, now: Timestamp) -> Result<(), StoreError>;

    /// Adds the chunk with this index; each is added once, in order.
    async fn append(&self, file: &FileRef, index: u64, chunk: Bytes) -> Result<(), StoreError>;

    /// Answers when the file is durable. An error where not all of it is there.
    async fn finish(&self, file: &FileRef, size: u64) -> Result<(), StoreError>;

    /// A chunk of a finished file, `None` where there is no such file or chunk.
    async fn read(&self, file: &FileRef, index: u64) -> Result<Option<Bytes>, StoreError>;

    /// Puts files in doubt since `now`, also those that were before. Gives how many are there.
    async fn doubt(&self, files: &[FileRef], now: Timestamp) -> Result<usize, StoreError>;

    /// Ends the doubt about files where it is older than `before`: their task lists them.
    async fn settle(&self, files: &[FileRef], before: Timestamp) -> Result<(), StoreError>;

    /// Removes files, whether they are there or not.
    async fn remove(&self, files: &[FileRef]) -> Result<(), StoreError>;

    /// Files in doubt since before `before`, at most `limit`.
    async fn in_doubt(&self, before: Timestamp, limit: usize) -> Result<Vec<FileRef>, StoreError>;
}
