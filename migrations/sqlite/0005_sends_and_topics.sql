-- One content that is sent later, or to all of a topic: what, to whom, when, and how far
-- it is. Kept for a week after its end.
CREATE TABLE sends (
    organization_id TEXT NOT NULL,
    -- UUIDv7, 16 bytes.
    id BLOB NOT NULL,
    -- NULL: it is for those in `send_recipients`.
    topic_id TEXT,
    idempotency_key TEXT,
    -- SHA-256 of the content and of whom it is for.
    fingerprint BLOB NOT NULL,
    -- 0 waiting, 1 under way, 2 done, 3 cancelled.
    state INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    accepted_at INTEGER NOT NULL,
    deliver_time INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    -- When to go on with it; NULL: it has ended.
    next_at INTEGER,
    -- Who had it last, in the order of the ids.
    last_user_id TEXT NOT NULL DEFAULT '',
    -- Of a topic, as many as it had when it was begun.
    total_count INTEGER NOT NULL,
    delivered_count INTEGER NOT NULL DEFAULT 0,
    suppressed_count INTEGER NOT NULL DEFAULT 0,
    error_count INTEGER NOT NULL DEFAULT 0,
    sender TEXT NOT NULL,
    expire_time INTEGER,
    collapse_key TEXT,
    is_silent INTEGER NOT NULL,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT,
    entity_type TEXT,
    entity_id TEXT,
    action_url TEXT,
    data TEXT,
    image_url TEXT,
    actions TEXT,
    PRIMARY KEY (organization_id, id)
) STRICT;
CREATE UNIQUE INDEX sends_by_idempotency_key ON sends (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX sends_by_state ON sends (organization_id, state, id);
CREATE INDEX sends_by_next ON sends (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX sends_by_end ON sends (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE send_recipients (
    organization_id TEXT NOT NULL,
    send_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (organization_id, send_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX send_recipients_by_user ON send_recipients (organization_id, user_id);

CREATE TABLE topic_members (
    organization_id TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (organization_id, topic_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX topic_members_by_user ON topic_members (organization_id, user_id, topic_id);
