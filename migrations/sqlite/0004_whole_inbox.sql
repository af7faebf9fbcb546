ALTER TABLE notifications ADD COLUMN image_url TEXT;
-- A JSON array of objects: label, url, is_primary.
ALTER TABLE notifications ADD COLUMN actions TEXT;
-- When the service took it; of a row of before this column, `created_at`.
ALTER TABLE notifications ADD COLUMN sent_at INTEGER;
ALTER TABLE notifications ADD COLUMN expire_time INTEGER;
ALTER TABLE notifications ADD COLUMN collapse_key TEXT;
-- How many it took the place of, one after the other.
ALTER TABLE notifications ADD COLUMN collapsed_count INTEGER NOT NULL DEFAULT 0;

-- count(*) of the inbox's rows that are not removed.
ALTER TABLE inboxes ADD COLUMN row_count INTEGER NOT NULL DEFAULT 0 CHECK (row_count >= 0);
-- No row that is not removed is older; 0: not known, or there are a thousand more than
-- when it was known. No change of every day touches it, nor its index.
ALTER TABLE inboxes ADD COLUMN oldest_at INTEGER NOT NULL DEFAULT 0;
UPDATE inboxes AS i SET row_count = (SELECT count(*) FROM notifications AS n
    WHERE n.organization_id = i.organization_id AND n.user_id = i.user_id
    AND n.removed_at IS NULL);
UPDATE inboxes AS i SET oldest_at = coalesce((SELECT min(n.created_at) FROM notifications AS n
    WHERE n.organization_id = i.organization_id AND n.user_id = i.user_id
    AND n.removed_at IS NULL), i.last_created_at) WHERE row_count < 1000;
CREATE INDEX inboxes_by_age ON inboxes (oldest_at);
CREATE TRIGGER inboxes_that_grew AFTER UPDATE OF row_count ON inboxes
WHEN new.row_count / 1000 > old.row_count / 1000
BEGIN
    UPDATE inboxes SET oldest_at = 0
    WHERE organization_id = new.organization_id AND user_id = new.user_id;
END;

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
    ON notifications (organization_id, user_id, sequence, type)
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
