-- Unseen: unread and of a sequence above `seen_through`, which only rises. Nobody
-- has looked yet.
ALTER TABLE inboxes
    ADD COLUMN unseen_count bigint NOT NULL DEFAULT 0 CHECK (unseen_count >= 0),
    ADD COLUMN seen_through bigint NOT NULL DEFAULT 0;
UPDATE inboxes SET unseen_count = unread_count;

ALTER TABLE notifications
    -- Removed for good: content blanked, key and fingerprint kept.
    ADD COLUMN removed_at bigint,
    -- 1 its person, 2 its sender, 3 its time was over, 4 a later one took its place.
    ADD COLUMN removal_cause bigint,
    -- The last revision at which it was to be heard; 0: never. What was there before
    -- has been heard.
    ADD COLUMN ring_revision bigint NOT NULL DEFAULT 0;

DROP INDEX notifications_unread;
CREATE INDEX notifications_unread
    ON notifications (organization_id, user_id, sequence)
    WHERE read_at IS NULL AND archived_at IS NULL AND removed_at IS NULL;

-- What is in the inbox about a thing.
CREATE INDEX notifications_about
    ON notifications (organization_id, user_id, entity_type, entity_id, sequence)
    WHERE entity_type IS NOT NULL AND entity_id IS NOT NULL
    AND archived_at IS NULL AND removed_at IS NULL;

-- A doorbell that does not know of these would count wrongly.
UPDATE doorbell SET oldest_schema = 4;
