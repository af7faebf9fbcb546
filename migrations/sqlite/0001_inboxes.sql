-- One row: what is true of the database as a whole.
CREATE TABLE doorbell (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- A random id, renewed after a restore: positions of another epoch mean
    -- nothing.
    epoch TEXT NOT NULL
) STRICT;

-- The heads: one row per inbox that ever changed, never deleted.
CREATE TABLE inboxes (
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision > 0),
    -- count(*) of the inbox's rows that are neither read nor archived.
    unread_count INTEGER NOT NULL CHECK (unread_count >= 0),
    -- The highest last-change revision that was purged.
    floor INTEGER NOT NULL DEFAULT 0,
    -- Microseconds since the Unix epoch, as all times here.
    last_created_at INTEGER NOT NULL,
    PRIMARY KEY (organization_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE notifications (
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- The inbox's revision at which the row was made: the order of the inbox.
    sequence INTEGER NOT NULL,
    -- UUIDv7, 16 bytes.
    id BLOB NOT NULL,
    -- The inbox's revision of the row's last change.
    revision INTEGER NOT NULL,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT,
    entity_type TEXT,
    entity_id TEXT,
    action_url TEXT,
    -- A JSON object in canonical text.
    data TEXT,
    -- `sub` of the sender's token.
    sender TEXT NOT NULL,
    idempotency_key TEXT,
    -- SHA-256 of the content, kept where there is an idempotency key.
    fingerprint BLOB,
    created_at INTEGER NOT NULL,
    read_at INTEGER,
    archived_at INTEGER,
    PRIMARY KEY (organization_id, user_id, sequence)
) STRICT;

CREATE UNIQUE INDEX notifications_by_id
    ON notifications (organization_id, user_id, id);

-- Replay: what changed after a position, in the order of the last change.
CREATE INDEX notifications_by_revision
    ON notifications (organization_id, user_id, revision, sequence);

CREATE UNIQUE INDEX notifications_by_idempotency_key
    ON notifications (organization_id, user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The unread ones of a large inbox, newest first.
CREATE INDEX notifications_unread
    ON notifications (organization_id, user_id, sequence)
    WHERE read_at IS NULL AND archived_at IS NULL;
