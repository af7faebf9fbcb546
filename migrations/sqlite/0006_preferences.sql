-- What a person said of a type of notifications: to have it, or not.
CREATE TABLE preferences (
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    type TEXT NOT NULL,
    is_on INTEGER NOT NULL,
    PRIMARY KEY (organization_id, user_id, type)
) STRICT, WITHOUT ROWID;

-- What an organization says of a type, for who said nothing of it, or, where it is
-- required, whatever they said.
CREATE TABLE type_defaults (
    organization_id TEXT NOT NULL,
    type TEXT NOT NULL,
    is_on INTEGER NOT NULL,
    is_required INTEGER NOT NULL,
    PRIMARY KEY (organization_id, type)
) STRICT, WITHOUT ROWID;
