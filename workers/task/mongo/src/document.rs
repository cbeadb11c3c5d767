//! The layout of documents: tasks and erasures to BSON and back.
//!
//! No I/O. Fields that only the store needs, such as `pending` or `deleted_at`, never reach the domain.
//! The other modules of this crate call it.

use bson::{DateTime, Document, doc};
use contract::id::{TaskId, UserId};
use mongo::{from_bson, to_bson};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use stores::StoreError;
use tasks::domain::{Attachment, Erasure, Priority, Status, Task};

/// The version of this layout. Every worker also reads the version before it.
pub(super) const SCHEMA: i32 = 1;

/// A task, without the fields that only the store needs.
#[derive(Serialize, Deserialize)]
pub(super) struct TaskDocument {
    #[serde(rename = "_id")]
    id: TaskId,
    title: String,
    description: String,
    status: Status,
    priority: Priority,
    due_at: Option<DateTime>,
    tags: Vec<String>,
    owner_id: UserId,
    assignee_id: Option<UserId>,
    attachments: Vec<Attachment>,
    version: i64,
    created_at: DateTime,
    updated_at: DateTime,
}

/// Excludes the fields that a [`TaskDocument`] does not have.
pub(super) fn projection() -> Document {
    doc! {"pending": 0, "idempotency": 0, "members": 0, "schema": 0, "deleted_at": 0}
}

impl From<TaskDocument> for Task {
    fn from(document: TaskDocument) -> Self {
        Self {
            id: document.id,
            title: document.title,
            description: document.description,
            status: document.status,
            priority: document.priority,
            due_at: document.due_at.map(from_bson),
            tags: document.tags,
            owner_id: document.owner_id,
            assignee_id: document.assignee_id,
            attachments: document.attachments,
            version: document.version.unsigned_abs(),
            created_at: from_bson(document.created_at),
            updated_at: from_bson(document.updated_at),
        }
    }
}

/// All fields of a task except its version, which only the writes themselves set.
pub(super) fn task_fields(operation: &'static str, task: &Task) -> Result<Document, StoreError> {
    let task = task.clone();
    let mut members = vec![task.owner_id.as_str().to_owned()];
    members.extend(task.assignee_id.iter().map(|id| id.as_str().to_owned()));
    members.dedup();
    let document = TaskDocument {
        id: task.id,
        title: task.title,
        description: task.description,
        status: task.status,
        priority: task.priority,
        due_at: task.due_at.map(to_bson),
        tags: task.tags,
        owner_id: task.owner_id,
        assignee_id: task.assignee_id,
        attachments: task.attachments,
        version: 0,
        created_at: to_bson(task.created_at),
        updated_at: to_bson(task.updated_at),
    };
    let mut fields = bson::serialize_to_document(&document)
        .map_err(|why| StoreError::corrupt(operation, why))?;
    fields.remove("version");
    fields.insert("members", members);
    Ok(fields)
}

pub(super) const ERASURES: &str = "erasures";

#[derive(Serialize, Deserialize)]
pub(super) struct ErasureDocument {
    #[serde(rename = "_id")]
    pub(super) user_id: UserId,
    pub(super) since: DateTime,
    pub(super) due_at: DateTime,
}

impl From<ErasureDocument> for Erasure {
    fn from(document: ErasureDocument) -> Self {
        Self {
            user_id: document.user_id,
            since: from_bson(document.since),
            due_at: from_bson(document.due_at),
        }
    }
}

pub(super) fn erasures(database: &Database) -> Collection<ErasureDocument> {
    database.collection(ERASURES)
}
