-- Times are milliseconds since 1970.
CREATE TABLE notifications (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    task_id TEXT NOT NULL,
    task_version INTEGER NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    read INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX notifications_sequence ON notifications (user_id, sequence);
-- One index for each filter, so that a page scans one range of an index, no matter how many notifications
-- come before it or do not match.
CREATE INDEX notifications_all ON notifications (user_id, created_at, id);
CREATE INDEX notifications_read ON notifications (user_id, read, created_at, id);
CREATE INDEX notifications_kind ON notifications (user_id, kind, created_at, id);
CREATE INDEX notifications_read_kind ON notifications (user_id, read, kind, created_at, id);
CREATE INDEX notifications_expiry ON notifications (expires_at);

-- Ids of applied events.
CREATE TABLE processed (
    event_id TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX processed_at ON processed (at);

-- One row per user. `deleted_at` is the tombstone, which stays. `forgetting` is the sequence number up to
-- which a deleted user's notifications are removed; it is null once all are.
CREATE TABLE counters (
    user_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL DEFAULT 0,
    unread INTEGER NOT NULL DEFAULT 0,
    purged INTEGER NOT NULL DEFAULT 0,
    deleted_at INTEGER,
    forgetting INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX counters_forgetting ON counters (user_id) WHERE forgetting IS NOT NULL;

-- The answers to read-all requests with an Idempotency-Key, and the progress of unfinished ones.
CREATE TABLE answers (
    user_id TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- The last sequence number that it marks. Later notifications stay unread, so that it ends.
    up_to INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    done INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_of_user ON answers (user_id, at);
CREATE INDEX answers_at ON answers (at);
