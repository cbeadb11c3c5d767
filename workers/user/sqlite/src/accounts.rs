//! Accounts: one row each. A deleted account stays as a tombstone, without personal data, at least
//! until its event is published and its sessions are marked as ended.

use contract::event::Envelope;
use contract::id::{SessionId, UserId};
use events::outbox::Pending;
use jiff::Timestamp;
use sqlite::rusqlite::{self, Connection, OptionalExtension, Row, named_params, params};
use sqlite::{millis, outbox, parsed, time};
use users::domain::{Email, EmailKey, Name, PasswordHash, Registration, User};

/// The most tombstones that one purge removes.
const PURGE_BATCH: usize = 500;

/// Whether no other account has the address.
pub(super) fn is_free(connection: &Connection, user: &User) -> rusqlite::Result<bool> {
    let taken = connection
        .prepare_cached("SELECT 1 FROM users WHERE email_key = ?1 AND id <> ?2")?
        .exists(params![user.email.key().as_str(), user.id.as_str()])?;
    Ok(!taken)
}

pub(super) fn insert(connection: &Connection, user: &User) -> rusqlite::Result<()> {
    let registration = user.registration.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO users (id, email_key, email, name, password, generation, kept_session,
                 registration_key, registration_said, version, created_at, updated_at)
             VALUES (:id, :email_key, :email, :name, :password, :generation, :kept_session,
                 :registration_key, :registration_said, :version, :created_at, :updated_at)",
        )?
        .execute(named_params! {
            ":id": user.id.as_str(),
            ":email_key": user.email.key().as_str(),
            ":email": user.email.as_str(),
            ":name": user.name.as_str(),
            ":password": user.password.as_str(),
            ":generation": user.generation,
            ":kept_session": user.kept_session.as_ref().map(SessionId::as_str),
            ":registration_key": registration.map(|registration| &registration.key),
            ":registration_said": registration.map(|registration| &registration.fingerprint),
            ":version": user.version,
            ":created_at": millis(user.created_at),
            ":updated_at": millis(user.updated_at),
        })?;
    Ok(())
}

/// Finds an account that is not deleted.
pub(super) fn find(connection: &Connection, id: &UserId) -> rusqlite::Result<Option<User>> {
    connection
        .prepare_cached("SELECT * FROM users WHERE id = ?1 AND deleted_at IS NULL")?
        .query_row([id.as_str()], user)
        .optional()
}

pub(super) fn find_by_email(
    connection: &Connection,
    key: &EmailKey,
) -> rusqlite::Result<Option<User>> {
    connection
        .prepare_cached("SELECT * FROM users WHERE email_key = ?1")?
        .query_row([key.as_str()], user)
        .optional()
}

/// The accounts after `after`, in the order of ids.
pub(super) fn all(
    connection: &Connection,
    after: Option<&UserId>,
    limit: usize,
) -> rusqlite::Result<Vec<User>> {
    connection
        .prepare_cached(
            "SELECT * FROM users WHERE id > ?1 AND deleted_at IS NULL ORDER BY id LIMIT ?2",
        )?
        .query_map(params![after.map_or("", UserId::as_str), limit], user)?
        .collect()
}

pub(super) fn update(connection: &Connection, user: &User) -> rusqlite::Result<bool> {
    let updated = connection
        .prepare_cached(
            "UPDATE users SET email_key = :email_key, email = :email, name = :name,
                 version = :version, updated_at = :updated_at
             WHERE id = :id AND version = :version - 1 AND deleted_at IS NULL",
        )?
        .execute(named_params! {
            ":id": user.id.as_str(),
            ":email_key": user.email.key().as_str(),
            ":email": user.email.as_str(),
            ":name": user.name.as_str(),
            ":version": user.version,
            ":updated_at": millis(user.updated_at),
        })?;
    Ok(updated > 0)
}

pub(super) fn replace_password(
    connection: &Connection,
    id: &UserId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE users SET password = ?3 WHERE id = ?1 AND password = ?2")?
        .execute(params![id.as_str(), old.as_str(), new.as_str()])?;
    Ok(())
}

pub(super) fn change_password(
    connection: &Connection,
    user: &User,
    new: &PasswordHash,
    kept: &SessionId,
) -> rusqlite::Result<bool> {
    // A repeated registration could no longer be checked against the password.
    let changed = connection
        .prepare_cached(
            "UPDATE users SET password = ?3, generation = generation + 1, kept_session = ?4,
                 dead_sessions = 1, registration_key = NULL, registration_said = NULL
             WHERE id = ?1 AND generation = ?2 AND deleted_at IS NULL",
        )?
        .execute(params![
            user.id.as_str(),
            user.generation,
            new.as_str(),
            kept.as_str()
        ])?;
    Ok(changed > 0)
}

pub(super) fn delete(
    connection: &Connection,
    user: &User,
    event: Envelope,
) -> rusqlite::Result<Option<Vec<Pending>>> {
    let version = user.version + 1;
    let deleted = connection
        .prepare_cached(
            "UPDATE users SET deleted_at = ?4, updated_at = ?4, version = version + 1,
                 dead_sessions = 1, email_key = NULL, email = NULL, name = NULL, password = NULL,
                 registration_key = NULL, registration_said = NULL
             WHERE id = ?1 AND version = ?2 AND generation = ?3 AND deleted_at IS NULL",
        )?
        .execute(params![
            user.id.as_str(),
            user.version,
            user.generation,
            millis(event.time)
        ])?;
    if deleted == 0 {
        return Ok(None);
    }
    outbox::add(connection, version, &event)?;
    Ok(Some(vec![Pending { version, event }]))
}

pub(super) fn with_dead_sessions(
    connection: &Connection,
    limit: usize,
) -> rusqlite::Result<Vec<UserId>> {
    connection
        .prepare_cached("SELECT id FROM users WHERE dead_sessions = 1 LIMIT ?1")?
        .query_map([limit], |row| parsed(row, "id", UserId::parse))?
        .collect()
}

/// Records that all dead sessions are marked.
pub(super) fn clear_dead_sessions(connection: &Connection, id: &UserId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE users SET dead_sessions = 0 WHERE id = ?1")?
        .execute([id.as_str()])?;
    Ok(())
}

pub(super) fn purge(connection: &Connection, before: Timestamp) -> rusqlite::Result<u64> {
    let gone: Vec<String> = connection
        .prepare_cached(
            "SELECT id FROM users
             WHERE deleted_at < ?1 AND dead_sessions = 0 AND NOT EXISTS (
                 SELECT 1 FROM events WHERE subject = users.id AND published = 0)
             LIMIT ?2",
        )?
        .query_map(params![millis(before), PURGE_BATCH], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in &gone {
        outbox::forget(connection, id)?;
        connection
            .prepare_cached("DELETE FROM users WHERE id = ?1")?
            .execute([id])?;
    }
    Ok(gone.len() as u64)
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    let (key, fingerprint): (Option<String>, Option<String>) =
        (row.get("registration_key")?, row.get("registration_said")?);
    let kept: Option<String> = row.get("kept_session")?;
    Ok(User {
        id: parsed(row, "id", UserId::parse)?,
        email: Email::stored(row.get("email")?),
        name: Name::stored(row.get("name")?),
        password: PasswordHash::new(row.get::<_, String>("password")?),
        generation: row.get("generation")?,
        kept_session: kept.as_deref().and_then(SessionId::parse),
        registration: key
            .zip(fingerprint)
            .map(|(key, fingerprint)| Registration { key, fingerprint }),
        version: row.get("version")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
