-- Unseen: unread and of a sequence above `seen_through`, which only rises. Nobody
-- has looked yet.
ALTER TABLE inboxes ADD COLUMN unseen_count INTEGER NOT NULL DEFAULT 0
    CHECK (unseen_count >= 0);
ALTER TABLE inboxes ADD COLUMN seen_through INTEGER NOT NULL DEFAULT 0;
UPDATE inboxes SET unseen_count = unread_count;

-- Removed for good: content blanked, key and fingerprint kept.
ALTER TABLE notifications ADD COLUMN removed_at INTEGER;
-- 1 its person, 2 its sender, 3 its time was over, 4 a later one took its place.
ALTER TABLE notifications ADD COLUMN removal_cause INTEGER;
-- The last revision at which it was to be heard; 0: never. What was there before
-- has been heard.
ALTER TABLE notifications ADD COLUMN ring_revision INTEGER NOT NULL DEFAULT 0;

DROP INDEX notifications_unread;
CREATE INDEX notifications_unread
    ON notifications (organization_id, user_id, sequence)
    WHERE read_at IS NULL AND archived_at IS NULL AND removed_at IS NULL;

-- What is in the inbox about a thing.
CREATE INDEX notifications_about
    ON notifications (organization_id, user_id, entity_type, entity_id, sequence)
    WHERE entity_type IS NOT NULL AND entity_id IS NOT NULL
    AND archived_at IS NULL AND removed_at IS NULL;
