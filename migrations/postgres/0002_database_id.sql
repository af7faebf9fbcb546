-- Which database this is: made once and kept for ever, through restores as well.
-- Nodes that share a NATS know one another's events by it.
ALTER TABLE doorbell ADD COLUMN database_id uuid;
