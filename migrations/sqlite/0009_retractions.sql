-- What is taken back from everybody of an organization: by what it is about, how far it is.
-- Kept for a week after its end.
CREATE TABLE retractions (
    organization_id TEXT NOT NULL,
    -- UUIDv7, 16 bytes.
    id BLOB NOT NULL,
    idempotency_key TEXT NOT NULL,
    entity_type TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    ended_at INTEGER,
    -- When to go on with it; NULL: it has ended.
    next_at INTEGER,
    -- The last row that it came to, in the order of the inboxes and their rows.
    last_user_id TEXT NOT NULL DEFAULT '',
    last_sequence INTEGER NOT NULL DEFAULT 0,
    retracted_count INTEGER NOT NULL DEFAULT 0,
    error_count INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, id)
) STRICT;
CREATE UNIQUE INDEX retractions_by_idempotency_key
    ON retractions (organization_id, idempotency_key);
CREATE INDEX retractions_by_next ON retractions (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX retractions_by_end ON retractions (ended_at) WHERE ended_at IS NOT NULL;

-- What there is about a thing: in one inbox, and in all of an organization.
DROP INDEX notifications_about;
CREATE INDEX notifications_about
    ON notifications (organization_id, entity_type, entity_id, user_id, sequence)
    WHERE entity_type IS NOT NULL AND entity_id IS NOT NULL AND removed_at IS NULL;
-- What is about a thing and not delivered yet.
CREATE INDEX sends_about ON sends (organization_id, entity_type, entity_id)
    WHERE state < 2 AND entity_type IS NOT NULL AND entity_id IS NOT NULL;
