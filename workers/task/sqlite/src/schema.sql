-- Times are milliseconds since 1970. A deleted task keeps its row until it is purged, and it is not purged before its events
-- are published.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    -- Title and description, case-folded, for searches.
    folded TEXT NOT NULL,
    status TEXT NOT NULL,
    priority TEXT NOT NULL,
    due_at INTEGER,
    tags TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    assignee_id TEXT,
    attachments TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    -- The request that created the task: its idempotency key and its body, both hashed, and its time.
    key TEXT,
    body TEXT,
    keyed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tasks_key ON tasks (owner_id, key) WHERE key IS NOT NULL;
CREATE INDEX tasks_keyed ON tasks (keyed_at) WHERE keyed_at IS NOT NULL;
CREATE INDEX tasks_deleted ON tasks (deleted_at) WHERE deleted_at IS NOT NULL;

-- The users who see a task, and its position in each order of their list. So a page is read from where it begins.
CREATE TABLE members (
    user_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER,
    priority INTEGER NOT NULL,
    PRIMARY KEY (user_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_created ON members (user_id, created_at, task_id);
CREATE INDEX members_due ON members (user_id, due_at, task_id);
CREATE INDEX members_priority ON members (user_id, priority, task_id);
CREATE INDEX members_task ON members (task_id);

-- Deleted users whose tasks are being erased.
CREATE TABLE erasures (
    user_id TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    due_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX erasures_due ON erasures (due_at);
