-- What is said to all of an organization, or, as organization '*', to everybody, and what
-- of that is taken back: each an entry that an inbox takes when it is next looked into.
-- Numbered by `doorbell.last_broadcast`, so that they are committed in their order.
CREATE TABLE broadcasts (
    organization_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    send_id uuid NOT NULL,
    -- NULL: the send is to be taken; otherwise it is taken back, and had this number.
    retracted_number bigint,
    created_at bigint NOT NULL,
    PRIMARY KEY (organization_id, number)
);
CREATE UNIQUE INDEX broadcasts_by_send
    ON broadcasts (organization_id, send_id, coalesce(retracted_number, 0));
CREATE INDEX broadcasts_retracted ON broadcasts (created_at) WHERE retracted_number IS NOT NULL;

-- The last entry of each.
CREATE TABLE audiences (
    organization_id text COLLATE "C" PRIMARY KEY,
    last_number bigint NOT NULL
);
CREATE INDEX audiences_by_number ON audiences (last_number);

ALTER TABLE doorbell ADD COLUMN last_broadcast bigint NOT NULL DEFAULT 0;
-- Up to which entry it has taken them.
ALTER TABLE inboxes ADD COLUMN taken_through bigint NOT NULL DEFAULT 0;
-- Of a broadcast: who looks until then gets it.
ALTER TABLE sends ADD COLUMN available_until bigint;
CREATE INDEX sends_broadcast ON sends (organization_id, state) WHERE available_until IS NOT NULL;
