-- Times are milliseconds since 1970. A deleted account keeps its row, without personal data, until it is purged.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    email_key TEXT UNIQUE,
    email TEXT,
    name TEXT,
    password TEXT,
    generation INTEGER NOT NULL,
    kept_session TEXT,
    registration_key TEXT,
    registration_said TEXT,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    dead_sessions INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX users_dead_sessions ON users (id) WHERE dead_sessions = 1;
CREATE INDEX users_deleted ON users (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    family BLOB NOT NULL UNIQUE,
    refresh BLOB NOT NULL,
    salt BLOB,
    replaced TEXT NOT NULL,
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (user_id, created_at DESC, id DESC);
CREATE INDEX sessions_expiry ON sessions (expires_at);
-- For the list of sessions that ended lately.
CREATE INDEX sessions_ended ON sessions (ended_at, id) WHERE ended_at IS NOT NULL;

-- Counters of attempts. Each is stored as a single time: when it will be empty.
CREATE TABLE attempts (
    key BLOB PRIMARY KEY,
    empty_at INTEGER NOT NULL,
    known_until INTEGER,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_expiry ON attempts (expires_at);
