ALTER TABLE notifications
    ADD COLUMN image_url text,
    -- A JSON array of objects: label, url, is_primary.
    ADD COLUMN actions text,
    -- When the service took it; of a row of before this column, `created_at`.
    ADD COLUMN sent_at bigint,
    ADD COLUMN expire_time bigint,
    ADD COLUMN collapse_key text COLLATE "C",
    -- How many it took the place of, one after the other.
    ADD COLUMN collapsed_count bigint NOT NULL DEFAULT 0;

ALTER TABLE inboxes
    -- count(*) of the inbox's rows that are not removed.
    ADD COLUMN row_count bigint NOT NULL DEFAULT 0 CHECK (row_count >= 0),
    -- No row that is not removed is older; 0: not known, or there are a thousand more
    -- than when it was known. No change of every day touches it, nor its index.
    ADD COLUMN oldest_at bigint NOT NULL DEFAULT 0;
UPDATE inboxes AS i SET row_count = (SELECT count(*) FROM notifications AS n
    WHERE n.organization_id = i.organization_id AND n.user_id = i.user_id
    AND n.removed_at IS NULL);
UPDATE inboxes AS i SET oldest_at = coalesce((SELECT min(n.created_at) FROM notifications AS n
    WHERE n.organization_id = i.organization_id AND n.user_id = i.user_id
    AND n.removed_at IS NULL), i.last_created_at) WHERE row_count < 1000;
CREATE INDEX inboxes_by_age ON inboxes (oldest_at);

-- The views of a large inbox, newest first: what is in it, and what is archived.
CREATE INDEX notifications_inbox
    ON notifications (organization_id, user_id, sequence)
    WHERE archived_at IS NULL AND removed_at IS NULL;
CREATE INDEX notifications_archived
    ON notifications (organization_id, user_id, sequence)
    WHERE archived_at IS NOT NULL AND removed_at IS NULL;
-- The unread ones, which are counted by their types.
DROP INDEX notifications_unread;
CREATE INDEX notifications_unread
    ON notifications (organization_id, user_id, sequence) INCLUDE (type)
    WHERE read_at IS NULL AND archived_at IS NULL AND removed_at IS NULL;
-- What there is about a thing, archived or not.
DROP INDEX notifications_about;
CREATE INDEX notifications_about
    ON notifications (organization_id, user_id, entity_type, entity_id, sequence)
    WHERE entity_type IS NOT NULL AND entity_id IS NOT NULL AND removed_at IS NULL;
-- What was sent with a collapse key, and which of it is unread.
CREATE INDEX notifications_by_collapse_key
    ON notifications (organization_id, user_id, collapse_key, sequence)
    WHERE collapse_key IS NOT NULL AND removed_at IS NULL;
CREATE INDEX notifications_collapsible
    ON notifications (organization_id, user_id, collapse_key, sequence)
    WHERE collapse_key IS NOT NULL AND read_at IS NULL AND archived_at IS NULL
    AND removed_at IS NULL;

-- What falls due, by its time.
CREATE INDEX notifications_by_expiry ON notifications (expire_time)
    WHERE expire_time IS NOT NULL AND removed_at IS NULL;
CREATE INDEX notifications_by_archival ON notifications (archived_at)
    WHERE archived_at IS NOT NULL AND removed_at IS NULL;
CREATE INDEX notifications_by_removal ON notifications (removed_at)
    WHERE removed_at IS NOT NULL;

-- The one node that does what falls due, until when it may, by the time of the database.
CREATE TABLE sweeper (
    id smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    holder uuid NOT NULL,
    held_until bigint NOT NULL
);

-- A doorbell that does not know of these would count wrongly.
UPDATE doorbell SET oldest_schema = 5;
