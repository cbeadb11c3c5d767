//! The layout of rows: tasks and erasures to columns and back.
//!
//! Each function is one step of a job of the database; it must never begin or end a transaction. The
//! store and its other modules call it.

use contract::id::{TaskId, UserId};
use sqlite::rusqlite::{self, Connection, OptionalExtension, Row, named_params, params};
use sqlite::{json, millis, parsed, time, to_json};
use stores::Idempotency;
use tasks::domain::{Erasure, Priority, Status, Task};

pub(super) fn insert(
    connection: &Connection,
    task: &Task,
    idempotency: Option<&Idempotency>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO tasks (id, title, description, folded, status, priority, due_at, tags,
                 owner_id, assignee_id, attachments, version, created_at, updated_at,
                 key, body, keyed_at)
             VALUES (:id, :title, :description, :folded, :status, :priority, :due_at, :tags,
                 :owner_id, :assignee_id, :attachments, :version, :created_at, :updated_at,
                 :key, :body, :keyed_at)",
        )?
        .execute(named_params! {
            ":id": task.id.as_str(),
            ":title": task.title,
            ":description": task.description,
            ":folded": folded_text(task),
            ":status": task.status.as_str(),
            ":priority": task.priority.as_str(),
            ":due_at": task.due_at.map(millis),
            ":tags": to_json(&task.tags)?,
            ":owner_id": task.owner_id.as_str(),
            ":assignee_id": task.assignee_id.as_ref().map(UserId::as_str),
            ":attachments": to_json(&task.attachments)?,
            ":version": task.version,
            ":created_at": millis(task.created_at),
            ":updated_at": millis(task.updated_at),
            ":key": idempotency.map(|request| request.key.to_hex()),
            ":body": idempotency.map(|request| request.body.to_hex()),
            ":keyed_at": idempotency.map(|_| millis(task.created_at)),
        })?;
    insert_members(connection, task)
}

pub(super) fn update(connection: &Connection, task: &Task) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE tasks SET title = :title, description = :description, folded = :folded,
                 status = :status, priority = :priority, due_at = :due_at, tags = :tags,
                 owner_id = :owner_id, assignee_id = :assignee_id, attachments = :attachments,
                 version = :version, updated_at = :updated_at
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": task.id.as_str(),
            ":title": task.title,
            ":description": task.description,
            ":folded": folded_text(task),
            ":status": task.status.as_str(),
            ":priority": task.priority.as_str(),
            ":due_at": task.due_at.map(millis),
            ":tags": to_json(&task.tags)?,
            ":owner_id": task.owner_id.as_str(),
            ":assignee_id": task.assignee_id.as_ref().map(UserId::as_str),
            ":attachments": to_json(&task.attachments)?,
            ":version": task.version,
            ":updated_at": millis(task.updated_at),
        })?;
    remove_members(connection, &task.id)?;
    insert_members(connection, task)
}

pub(super) fn delete(connection: &Connection, task: &Task) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE tasks SET version = ?2, updated_at = ?3, deleted_at = ?3 WHERE id = ?1",
        )?
        .execute(params![
            task.id.as_str(),
            task.version,
            millis(task.updated_at)
        ])?;
    remove_members(connection, &task.id)
}

pub(super) fn get(connection: &Connection, id: &TaskId) -> rusqlite::Result<Option<Task>> {
    connection
        .prepare_cached("SELECT * FROM tasks WHERE id = ?1 AND deleted_at IS NULL")?
        .query_row([id.as_str()], task)
        .optional()
}

/// At most `limit` tasks in the order of their ids, after `after`.
pub(super) fn all(
    connection: &Connection,
    after: Option<&TaskId>,
    limit: usize,
) -> rusqlite::Result<Vec<Task>> {
    connection
        .prepare_cached(
            "SELECT * FROM tasks WHERE id > ?1 AND deleted_at IS NULL ORDER BY id LIMIT ?2",
        )?
        .query_map(params![after.map_or("", TaskId::as_str), limit], task)?
        .collect()
}

/// Whether the task exists and has this version.
pub(super) fn is_of_version(
    connection: &Connection,
    id: &TaskId,
    version: u64,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM tasks WHERE id = ?1 AND version = ?2 AND deleted_at IS NULL",
        )?
        .exists(params![id.as_str(), version])
}

fn insert_members(connection: &Connection, task: &Task) -> rusqlite::Result<()> {
    let assignee = task.assignee_id.as_ref().filter(|id| **id != task.owner_id);
    for user in [Some(&task.owner_id), assignee].into_iter().flatten() {
        connection
            .prepare_cached("INSERT INTO members VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                user.as_str(),
                task.id.as_str(),
                millis(task.created_at),
                task.due_at.map(millis),
                task.priority as i64
            ])?;
    }
    Ok(())
}

fn remove_members(connection: &Connection, id: &TaskId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM members WHERE task_id = ?1")?
        .execute([id.as_str()])?;
    Ok(())
}

fn folded_text(task: &Task) -> String {
    // A search word never matches across the two: it holds no line break.
    format!("{}\n{}", folded(&task.title), folded(&task.description))
}

/// The text without the difference between upper and lower case. Each character is folded by itself,
/// so that the folded form of a part occurs in the folded form of the whole text.
pub(super) fn folded(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    let due_at: Option<i64> = row.get("due_at")?;
    let assignee: Option<String> = row.get("assignee_id")?;
    Ok(Task {
        id: parsed(row, "id", TaskId::parse)?,
        title: row.get("title")?,
        description: row.get("description")?,
        status: parsed(row, "status", |word| Status::parse(word).ok())?,
        priority: parsed(row, "priority", |word| Priority::parse(word).ok())?,
        due_at: due_at.map(|_| time(row, "due_at")).transpose()?,
        tags: json(row, "tags")?,
        owner_id: parsed(row, "owner_id", UserId::parse)?,
        assignee_id: assignee
            .map(|_| parsed(row, "assignee_id", UserId::parse))
            .transpose()?,
        attachments: json(row, "attachments")?,
        version: row.get("version")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn erasures(connection: &Connection) -> rusqlite::Result<Vec<Erasure>> {
    connection
        .prepare_cached("SELECT * FROM erasures")?
        .query_map([], erasure)?
        .collect()
}

pub(super) fn erasure(row: &Row<'_>) -> rusqlite::Result<Erasure> {
    Ok(Erasure {
        user_id: parsed(row, "user_id", UserId::parse)?,
        since: time(row, "since")?,
        due_at: time(row, "due_at")?,
    })
}
