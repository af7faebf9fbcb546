ALTER TABLE notifications
    -- When the organization is told of it; NULL: it is not, or no more.
    ADD COLUMN follow_up_at bigint,
    -- 1 unless it has been seen by then, 2 unless it has been read.
    ADD COLUMN follow_up_unless bigint;
CREATE INDEX notifications_by_follow_up ON notifications (follow_up_at)
    WHERE follow_up_at IS NOT NULL;

-- What an organization was told of, in this order. It goes with the notification.
CREATE TABLE follow_ups (
    organization_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    due_at bigint NOT NULL,
    follow_up_unless bigint NOT NULL,
    told_at bigint NOT NULL,
    PRIMARY KEY (organization_id, position),
    FOREIGN KEY (organization_id, user_id, sequence) REFERENCES notifications ON DELETE CASCADE
);
CREATE UNIQUE INDEX follow_ups_of ON follow_ups (organization_id, user_id, sequence);
CREATE INDEX follow_ups_by_time ON follow_ups (told_at);

-- The last place of each that was taken; none is taken twice.
CREATE TABLE follow_up_logs (
    organization_id text COLLATE "C" PRIMARY KEY,
    last_position bigint NOT NULL
);

ALTER TABLE sends
    -- Microseconds; NULL: there is none.
    ADD COLUMN follow_up_after bigint,
    ADD COLUMN follow_up_unless bigint;
