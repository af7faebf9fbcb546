-- Which database this is: made once and kept for ever, through restores as well.
-- 16 bytes.
ALTER TABLE doorbell ADD COLUMN database_id BLOB;
