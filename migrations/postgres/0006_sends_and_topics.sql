-- One content that is sent later, or to all of a topic: what, to whom, when, and how far
-- it is. Kept for a week after its end.
CREATE TABLE sends (
    organization_id text COLLATE "C" NOT NULL,
    -- UUIDv7.
    id uuid NOT NULL,
    -- NULL: it is for those in `send_recipients`.
    topic_id text COLLATE "C",
    idempotency_key text COLLATE "C",
    -- SHA-256 of the content and of whom it is for.
    fingerprint bytea NOT NULL,
    -- 0 waiting, 1 under way, 2 done, 3 cancelled.
    state bigint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    accepted_at bigint NOT NULL,
    deliver_time bigint NOT NULL,
    started_at bigint,
    ended_at bigint,
    -- When to go on with it; NULL: it has ended.
    next_at bigint,
    -- Who had it last, in the order of the ids.
    last_user_id text COLLATE "C" NOT NULL DEFAULT '',
    -- Of a topic, as many as it had when it was begun.
    total_count bigint NOT NULL,
    delivered_count bigint NOT NULL DEFAULT 0,
    suppressed_count bigint NOT NULL DEFAULT 0,
    error_count bigint NOT NULL DEFAULT 0,
    sender text NOT NULL,
    expire_time bigint,
    collapse_key text COLLATE "C",
    is_silent bigint NOT NULL,
    type text NOT NULL,
    title text NOT NULL,
    body text,
    entity_type text,
    entity_id text,
    action_url text,
    data text,
    image_url text,
    actions text,
    PRIMARY KEY (organization_id, id)
);
CREATE UNIQUE INDEX sends_by_idempotency_key ON sends (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX sends_by_state ON sends (organization_id, state, id);
CREATE INDEX sends_by_next ON sends (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX sends_by_end ON sends (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE send_recipients (
    organization_id text COLLATE "C" NOT NULL,
    send_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization_id, send_id, user_id)
);
CREATE INDEX send_recipients_by_user ON send_recipients (organization_id, user_id);

CREATE TABLE topic_members (
    organization_id text COLLATE "C" NOT NULL,
    topic_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization_id, topic_id, user_id)
);
CREATE INDEX topic_members_by_user ON topic_members (organization_id, user_id, topic_id);
