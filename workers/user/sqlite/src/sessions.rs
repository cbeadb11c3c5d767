//! Sessions: one row each, kept until the session expires or, once ended, for
//! [`ENDED_SESSIONS_KEPT`].

use contract::id::{SessionId, UserId};
use contract::page::{Page, PageRequest};
use contract::revocation::Ended;
use jiff::Timestamp;
use sqlite::rusqlite::{self, Connection, OptionalExtension, Row, ToSql, named_params, params};
use sqlite::{json, millis, parsed, time, to_json, unreadable};
use users::domain::{Salt, Session, TokenFamily, TokenHash, User};
use users::store::{ENDED_SESSIONS_KEPT, SessionKey};

/// The most sessions that one purge removes.
const PURGE_BATCH: usize = 500;

pub(super) fn insert(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO sessions (id, user_id, generation, family, refresh, salt, replaced, device,
                 address, created_at, last_used_at, expires_at)
             VALUES (:id, :user_id, :generation, :family, :refresh, :salt, :replaced, :device,
                 :address, :created_at, :last_used_at, :expires_at)",
        )?
        .execute(named_params! {
            ":id": session.id.as_str(),
            ":user_id": session.user_id.as_str(),
            ":generation": session.generation,
            ":family": session.family.id.as_bytes(),
            ":refresh": session.family.current.as_bytes(),
            ":salt": session.family.salt.as_ref().map(Salt::as_bytes),
            ":replaced": replaced(&session.family)?,
            ":device": session.device,
            ":address": session.address,
            ":created_at": millis(session.created_at),
            ":last_used_at": millis(session.last_used_at),
            ":expires_at": millis(session.expires_at),
        })?;
    Ok(())
}

/// Finds a session that is not marked as ended.
pub(super) fn find(connection: &Connection, id: &SessionId) -> rusqlite::Result<Option<Session>> {
    connection
        .prepare_cached("SELECT * FROM sessions WHERE id = ?1 AND ended_at IS NULL")?
        .query_row([id.as_str()], session)
        .optional()
}

pub(super) fn find_by_family(
    connection: &Connection,
    id: &TokenHash,
) -> rusqlite::Result<Option<Session>> {
    connection
        .prepare_cached("SELECT * FROM sessions WHERE family = ?1 AND ended_at IS NULL")?
        .query_row([id.as_bytes()], session)
        .optional()
}

pub(super) fn refresh(
    connection: &Connection,
    before: &TokenHash,
    after: &Session,
) -> rusqlite::Result<bool> {
    let refreshed = connection
        .prepare_cached(
            "UPDATE sessions SET refresh = :refresh, salt = :salt, replaced = :replaced,
                 device = :device, address = :address, last_used_at = :last_used_at,
                 expires_at = :expires_at
             WHERE id = :id AND refresh = :before AND ended_at IS NULL",
        )?
        .execute(named_params! {
            ":id": after.id.as_str(),
            ":before": before.as_bytes(),
            ":refresh": after.family.current.as_bytes(),
            ":salt": after.family.salt.as_ref().map(Salt::as_bytes),
            ":replaced": replaced(&after.family)?,
            ":device": after.device,
            ":address": after.address,
            ":last_used_at": millis(after.last_used_at),
            ":expires_at": millis(after.expires_at),
        })?;
    Ok(refreshed > 0)
}

pub(super) fn end(
    connection: &Connection,
    id: &SessionId,
    current: Option<TokenHash>,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let ended = connection
        .prepare_cached(
            "UPDATE sessions SET ended_at = ?3, expires_at = ?4
             WHERE id = ?1 AND (?2 IS NULL OR refresh = ?2) AND ended_at IS NULL",
        )?
        .execute(params![
            id.as_str(),
            current.as_ref().map(TokenHash::as_bytes),
            millis(now),
            millis(now + ENDED_SESSIONS_KEPT)
        ])?;
    Ok(ended > 0)
}

/// Marks the sessions that the last password change or the deletion has killed.
pub(super) fn end_dead(
    connection: &Connection,
    user: &UserId,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE sessions SET ended_at = ?2, expires_at = ?3 FROM users
             WHERE users.id = ?1 AND sessions.user_id = ?1 AND sessions.ended_at IS NULL AND (
                 users.deleted_at IS NOT NULL OR (
                     sessions.generation <> users.generation
                     AND sessions.id IS NOT users.kept_session))",
        )?
        .execute(params![
            user.as_str(),
            millis(now),
            millis(now + ENDED_SESSIONS_KEPT)
        ])?;
    Ok(())
}

pub(super) fn ended(
    connection: &Connection,
    SessionKey(at, id): &SessionKey,
    limit: usize,
) -> rusqlite::Result<Vec<Ended>> {
    connection
        .prepare_cached(
            "SELECT id, ended_at FROM sessions
             WHERE ended_at IS NOT NULL AND (ended_at, id) > (?1, ?2) ORDER BY ended_at, id LIMIT ?3",
        )?
        .query_map(params![at, id, limit], |row| {
            Ok(Ended {
                sid: parsed(row, "id", SessionId::parse)?,
                at: time(row, "ended_at")?,
            })
        })?
        .collect()
}

pub(super) fn list(
    connection: &Connection,
    user: &User,
    page: &PageRequest<SessionKey>,
    now: Timestamp,
) -> rusqlite::Result<Page<Session>> {
    // The first page begins after the latest possible time.
    let (created_at, id) = match &page.after {
        Some(SessionKey(created_at, id)) => (*created_at, id.as_str()),
        None => (i64::MAX, ""),
    };
    let found = connection
        .prepare_cached(
            "SELECT * FROM sessions
             WHERE user_id = :user AND (created_at, id) < (:created_at, :id)
                 AND ended_at IS NULL AND expires_at > :now
                 AND (generation = :generation OR id IS :kept)
             ORDER BY created_at DESC, id DESC LIMIT :limit",
        )?
        .query_map(
            named_params! {
                ":user": user.id.as_str(),
                ":created_at": created_at,
                ":id": id,
                ":now": millis(now),
                ":generation": user.generation,
                ":kept": user.kept_session.as_ref().map(SessionId::as_str),
                ":limit": page.limit + 1,
            },
            session,
        )?
        .collect::<Result<_, _>>()?;
    Ok(Page::new(found, page.limit, SessionKey::of))
}

/// Removes expired sessions; ended ones expire when nobody has to learn of them any more.
pub(super) fn purge(connection: &Connection, before: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM sessions WHERE id IN (
                 SELECT id FROM sessions WHERE expires_at < ?1 LIMIT ?2)",
        )?
        .execute(params![millis(before), PURGE_BATCH])?;
    Ok(())
}

fn replaced(family: &TokenFamily) -> rusqlite::Result<impl ToSql + use<>> {
    let times: Vec<i64> = family.replaced.iter().copied().map(millis).collect();
    to_json(&times)
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let malformed = || unreadable("a hash of a session does not have 32 bytes");
    let hash = |column| -> rusqlite::Result<TokenHash> {
        TokenHash::stored(row.get_ref(column)?.as_blob()?).ok_or_else(malformed)
    };
    let salt = row.get_ref("salt")?.as_blob_or_null()?;
    let salt = salt.map(|kept| Salt::stored(kept).ok_or_else(malformed));
    let replaced: Vec<i64> = json(row, "replaced")?;
    let replaced = replaced.into_iter().map(Timestamp::from_millisecond);
    Ok(Session {
        id: parsed(row, "id", SessionId::parse)?,
        user_id: parsed(row, "user_id", UserId::parse)?,
        generation: row.get("generation")?,
        family: TokenFamily {
            id: hash("family")?,
            current: hash("refresh")?,
            salt: salt.transpose()?,
            replaced: replaced.collect::<Result<_, _>>().map_err(unreadable)?,
        },
        device: row.get("device")?,
        address: row.get("address")?,
        created_at: time(row, "created_at")?,
        last_used_at: time(row, "last_used_at")?,
        expires_at: time(row, "expires_at")?,
    })
}
