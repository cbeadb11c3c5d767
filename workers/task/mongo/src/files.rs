//! Files in MongoDB, in the layout of GridFS: a document for each file in `attachments.files`, its
//! bytes in `attachments.chunks`. So any tool that knows GridFS can read them.
//!
//! This must not use the driver's GridFS bucket, which writes the file's document last: a crash during
//! an upload would leave chunks that nothing refers to.

use async_trait::async_trait;
use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use bytes::Bytes;
use contract::id::{AttachmentId, TaskId};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongo::{MongoSettings, connect, run, to_bson};
use mongodb::error::Error;
use mongodb::options::{Acknowledgment, CollectionOptions, IndexOptions, WriteConcern};
use mongodb::{Collection, Database, IndexModel};
use stores::StoreError;
use tasks::store::files::{CHUNK, FileRef, FileStore};

const FILES: &str = "attachments.files";
const CHUNKS: &str = "attachments.chunks";
const IN_DOUBT_SINCE: &str = "metadata.in_doubt_since";

#[derive(Clone)]
pub struct GridFsFiles {
    files: Collection<Document>,
    chunks: Collection<Document>,
    /// The same collection, acknowledged by the primary only. [`FileStore::finish`] waits for a majority
    /// and the journal.
    primary_chunks: Collection<Document>,
}

impl GridFsFiles {
    pub async fn connect(settings: &MongoSettings) -> anyhow::Result<Self> {
        Ok(Self::new(&connect(settings).await?))
    }

    pub fn new(database: &Database) -> Self {
        let primary = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let primary = CollectionOptions::builder().write_concern(primary).build();
        Self {
            files: database.collection(FILES),
            chunks: database.collection(CHUNKS),
            primary_chunks: database.collection_with_options(CHUNKS, primary),
        }
    }
}

fn ids(files: &[FileRef]) -> Vec<&str> {
    files.iter().map(|file| file.id.as_str()).collect()
}

fn as_i64(operation: &'static str, number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|why| StoreError::corrupt(operation, why))
}

#[async_trait]
impl FileStore for GridFsFiles {
    async fn prepare(&self) -> Result<(), StoreError> {
        let unique = IndexOptions::builder().unique(true).build();
        let of_chunks = IndexModel::builder()
            .keys(doc! {"files_id": 1, "n": 1})
            .options(unique)
            .build();
        let partial = IndexOptions::builder()
            .partial_filter_expression(doc! {IN_DOUBT_SINCE: {"$type": "date"}})
            .build();
        let in_doubt = IndexModel::builder()
            .keys(doc! {IN_DOUBT_SINCE: 1})
            .options(partial)
            .build();
        let (files, chunks) = (self.files.clone(), self.chunks.clone());
        run("prepare files", async move {
            chunks.create_index(of_chunks).await?;
            files.create_index(in_doubt).await
        })
        .await?;
        Ok(())
    }

    async fn begin(&self, file: &FileRef, now: Timestamp) -> Result<(), StoreError> {
        let document = doc! {
            "_id": file.id.as_str(),
            "length": 0_i64,
            "chunkSize": CHUNK as i32,
            "uploadDate": to_bson(now),
            "metadata": {"task_id": file.task.as_str(), "in_doubt_since": to_bson(now)},
        };
        let files = self.files.clone();
        run(
            "begin file",
            async move { files.insert_one(document).await },
        )
        .await?;
        Ok(())
    }

    async fn append(&self, file: &FileRef, index: u64, chunk: Bytes) -> Result<(), StoreError> {
        let data = Binary {
            subtype: BinarySubtype::Generic,
            bytes: chunk.into(),
        };
        let n = i32::try_from(index).map_err(|why| StoreError::corrupt("write file", why))?;
        let document = doc! {"files_id": file.id.as_str(), "n": n, "data": data};
        let chunks = self.primary_chunks.clone();
        run(
            "write file",
            async move { chunks.insert_one(document).await },
        )
        .await?;
        Ok(())
    }

    async fn finish(&self, file: &FileRef, size: u64) -> Result<(), StoreError> {
        const OPERATION: &str = "finish file";
        let (id, length) = (file.id.as_str().to_owned(), as_i64(OPERATION, size)?);
        let (files, chunks) = (self.files.clone(), self.chunks.clone());
        let wanted = size.div_ceil(CHUNK as u64);
        run(OPERATION, async move {
            // A majority that has this write also has every write before it, unless the primary changed in
            // between. So the chunks are counted.
            let known = files
                .update_one(doc! {"_id": &id}, doc! {"$set": {"length": length}})
                .await?
                .matched_count;
            let found = chunks.count_documents(doc! {"files_id": &id}).await?;
            match known == 1 && found == wanted {
                true => Ok(()),
                false => Err(Error::custom("the file is incomplete")),
            }
        })
        .await
    }

    async fn read(&self, file: &FileRef, index: u64) -> Result<Option<Bytes>, StoreError> {
        const OPERATION: &str = "read file";
        let chunk = doc! {"files_id": file.id.as_str(), "n": as_i64(OPERATION, index)?};
        let chunks = self.chunks.clone();
        let found = run(OPERATION, async move { chunks.find_one(chunk).await }).await?;
        found
            .map(|mut chunk| match chunk.remove("data") {
                Some(bson::Bson::Binary(data)) => Ok(data.bytes.into()),
                _ => Err(StoreError::corrupt(OPERATION, "a chunk without data")),
            })
            .transpose()
    }

    async fn mark_in_doubt(&self, files: &[FileRef], now: Timestamp) -> Result<usize, StoreError> {
        let these = doc! {"_id": {"$in": ids(files)}};
        let since = doc! {"$set": {IN_DOUBT_SINCE: to_bson(now)}};
        let files = self.files.clone();
        let marked = run("mark files in doubt", async move {
            files.update_many(these, since).await
        });
        Ok(usize::try_from(marked.await?.matched_count).unwrap_or(usize::MAX))
    }

    async fn settle(&self, files: &[FileRef], before: Timestamp) -> Result<(), StoreError> {
        let these = doc! {"_id": {"$in": ids(files)}, IN_DOUBT_SINCE: {"$lt": to_bson(before)}};
        let files = self.files.clone();
        run("settle files", async move {
            files
                .update_many(these, doc! {"$unset": {IN_DOUBT_SINCE: 1}})
                .await
        })
        .await?;
        Ok(())
    }

    async fn remove(&self, files: &[FileRef]) -> Result<(), StoreError> {
        let chunks_of = doc! {"files_id": {"$in": ids(files)}};
        let these = doc! {"_id": {"$in": ids(files)}};
        let (files, chunks) = (self.files.clone(), self.chunks.clone());
        run("remove files", async move {
            // The chunks first: after a crash in between, the file's document is still there to be found.
            chunks.delete_many(chunks_of).await?;
            files.delete_many(these).await
        })
        .await?;
        Ok(())
    }

    async fn in_doubt(&self, before: Timestamp, limit: usize) -> Result<Vec<FileRef>, StoreError> {
        const OPERATION: &str = "find files in doubt";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // Only with `$type` does the server use the partial index.
        let old = doc! {IN_DOUBT_SINCE: {"$lt": to_bson(before), "$type": "date"}};
        let files = self.files.clone();
        let found: Vec<Document> = run(OPERATION, async move {
            let found = files.find(old).projection(doc! {"metadata.task_id": 1});
            found
                .sort(doc! {IN_DOUBT_SINCE: 1})
                .limit(limit)
                .await?
                .try_collect()
                .await
        })
        .await?;
        let unreadable = || StoreError::corrupt(OPERATION, "a file without its task");
        let parse = |document: &Document| {
            let task = document.get_document("metadata").ok()?.get_str("task_id");
            Some(FileRef {
                task: TaskId::parse(task.ok()?)?,
                id: AttachmentId::parse(document.get_str("_id").ok()?)?,
            })
        };
        found
            .iter()
            .map(|document| parse(document).ok_or_else(unreadable))
            .collect()
    }
}
