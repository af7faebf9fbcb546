-- One row: what is true of the database as a whole.
CREATE TABLE doorbell (
    id smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    -- A random id, renewed after a restore: positions of another epoch mean
    -- nothing.
    epoch text NOT NULL,
    -- A program that knows this migration may use the schema, whatever came
    -- after it: nodes of two versions run together during a rolling restart.
    oldest_schema bigint NOT NULL DEFAULT 1
);

-- The heads: one row per inbox that a notification was ever sent to, never
-- deleted. Revision 0: it was made for the first send, which is under way.
CREATE TABLE inboxes (
    organization_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL DEFAULT 0 CHECK (revision >= 0),
    -- count(*) of the inbox's rows that are neither read nor archived.
    unread_count bigint NOT NULL DEFAULT 0 CHECK (unread_count >= 0),
    -- The highest last-change revision that was purged.
    floor bigint NOT NULL DEFAULT 0,
    -- Microseconds since the Unix epoch, as all times here.
    last_created_at bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, user_id)
-- Each change rewrites the row: with room on its page no index is touched.
) WITH (fillfactor = 50);

CREATE TABLE notifications (
    organization_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    -- The inbox's revision at which the row was made: the order of the inbox.
    sequence bigint NOT NULL,
    -- UUIDv7.
    id uuid NOT NULL,
    -- The inbox's revision of the row's last change.
    revision bigint NOT NULL,
    type text NOT NULL,
    title text NOT NULL,
    body text,
    entity_type text,
    entity_id text,
    action_url text,
    -- A JSON object in canonical text: `jsonb` would not keep it as it is.
    data text,
    -- `sub` of the sender's token.
    sender text NOT NULL,
    idempotency_key text COLLATE "C",
    -- SHA-256 of the content, kept where there is an idempotency key.
    fingerprint bytea,
    created_at bigint NOT NULL,
    read_at bigint,
    archived_at bigint,
    PRIMARY KEY (organization_id, user_id, sequence)
);

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
