-- What is said to all of an organization, or, as organization '*', to everybody, and what
-- of that is taken back: each an entry that an inbox takes when it is next looked into.
-- Numbered by `doorbell.last_broadcast`, so that they are committed in their order.
CREATE TABLE broadcasts (
    organization_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    send_id BLOB NOT NULL,
    -- NULL: the send is to be taken; otherwise it is taken back, and had this number.
    retracted_number INTEGER,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (organization_id, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX broadcasts_by_send
    ON broadcasts (organization_id, send_id, coalesce(retracted_number, 0));
CREATE INDEX broadcasts_retracted ON broadcasts (created_at) WHERE retracted_number IS NOT NULL;

-- The last entry of each.
CREATE TABLE audiences (
    organization_id TEXT PRIMARY KEY NOT NULL,
    last_number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX audiences_by_number ON audiences (last_number);

ALTER TABLE doorbell ADD COLUMN last_broadcast INTEGER NOT NULL DEFAULT 0;
-- An inbox may have a head and no revision yet: who only took what was not for them. SQLite
-- lets go of no CHECK, so the table is made anew, with all that was on it.
CREATE TABLE inboxes_with_cursor (
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision >= 0),
    unread_count INTEGER NOT NULL CHECK (unread_count >= 0),
    floor INTEGER NOT NULL DEFAULT 0,
    last_created_at INTEGER NOT NULL,
    unseen_count INTEGER NOT NULL DEFAULT 0 CHECK (unseen_count >= 0),
    seen_through INTEGER NOT NULL DEFAULT 0,
    row_count INTEGER NOT NULL DEFAULT 0 CHECK (row_count >= 0),
    oldest_at INTEGER NOT NULL DEFAULT 0,
    -- Up to which entry it has taken what was broadcast.
    taken_through INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, user_id)
) STRICT, WITHOUT ROWID;
INSERT INTO inboxes_with_cursor
    SELECT organization_id, user_id, revision, unread_count, floor, last_created_at,
        unseen_count, seen_through, row_count, oldest_at, 0
    FROM inboxes;
DROP TABLE inboxes;
ALTER TABLE inboxes_with_cursor RENAME TO inboxes;
CREATE INDEX inboxes_by_age ON inboxes (oldest_at);
CREATE TRIGGER inboxes_that_grew AFTER UPDATE OF row_count ON inboxes
WHEN new.row_count / 1000 > old.row_count / 1000
BEGIN
    UPDATE inboxes SET oldest_at = 0
    WHERE organization_id = new.organization_id AND user_id = new.user_id;
END;
-- Of a broadcast: who looks until then gets it.
ALTER TABLE sends ADD COLUMN available_until INTEGER;
CREATE INDEX sends_broadcast ON sends (organization_id, state) WHERE available_until IS NOT NULL;
