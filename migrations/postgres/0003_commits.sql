-- The proof of a commit: each batch inserts its id in its own transaction, so who lost
-- the answer can ask. Rows are deleted after 7 days. A node of a version before this
-- table does without it: an id concerns nobody but the node that made it.
CREATE TABLE commits (
    -- Of the batch's first inbox: the row can lie where that does.
    organization_id text COLLATE "C" NOT NULL,
    -- UUIDv7: rows are made at the end of the index, and deleted at its beginning.
    id uuid NOT NULL,
    PRIMARY KEY (id, organization_id)
);
