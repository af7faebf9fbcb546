-- When the organization is told of it; NULL: it is not, or no more.
ALTER TABLE notifications ADD COLUMN follow_up_at INTEGER;
-- 1 unless it has been seen by then, 2 unless it has been read.
ALTER TABLE notifications ADD COLUMN follow_up_unless INTEGER;
CREATE INDEX notifications_by_follow_up ON notifications (follow_up_at)
    WHERE follow_up_at IS NOT NULL;

-- What an organization was told of, in this order. It goes with the notification.
CREATE TABLE follow_ups (
    organization_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    follow_up_unless INTEGER NOT NULL,
    told_at INTEGER NOT NULL,
    PRIMARY KEY (organization_id, position),
    FOREIGN KEY (organization_id, user_id, sequence)
        REFERENCES notifications (organization_id, user_id, sequence) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX follow_ups_of ON follow_ups (organization_id, user_id, sequence);
CREATE INDEX follow_ups_by_time ON follow_ups (told_at);

-- The last place of each that was taken; none is taken twice.
CREATE TABLE follow_up_logs (
    organization_id TEXT PRIMARY KEY NOT NULL,
    last_position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Microseconds; NULL: there is none.
ALTER TABLE sends ADD COLUMN follow_up_after INTEGER;
ALTER TABLE sends ADD COLUMN follow_up_unless INTEGER;
