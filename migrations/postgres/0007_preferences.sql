-- What a person said of a type of notifications: to have it, or not.
CREATE TABLE preferences (
    organization_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    is_on bigint NOT NULL,
    PRIMARY KEY (organization_id, user_id, type)
);

-- What an organization says of a type, for who said nothing of it, or, where it is
-- required, whatever they said.
CREATE TABLE type_defaults (
    organization_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    is_on bigint NOT NULL,
    is_required bigint NOT NULL,
    PRIMARY KEY (organization_id, type)
);
