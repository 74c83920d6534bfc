-- Who signs for a folder of the Image repository with keys of its own. A row stays when a supplier is removed: the name of a
-- role is never used again, since clients remember its versions.
CREATE TABLE suppliers (
    name         TEXT   NOT NULL PRIMARY KEY,
    role         TEXT   NOT NULL UNIQUE, -- of `roles`
    folder       TEXT   NOT NULL,        -- with a slash at its end
    hardware_ids TEXT   NOT NULL,        -- JSON array; empty for any
    keys         TEXT   NOT NULL,        -- JSON array of key objects
    threshold    BIGINT NOT NULL,
    terminating  BIGINT NOT NULL,        -- whether nobody else is asked for what lies in the folder
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,        -- id of a token
    removed_at   BIGINT
);

-- The last files of roles that nobody delegates to any more. Snapshots go on listing them: a snapshot that drops one looks like
-- a rollback to every client that knows it (TUF 1.0.34, 5.5.5).
CREATE TABLE retired_roles (
    name    TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    length  BIGINT NOT NULL,
    sha256  TEXT   NOT NULL
);
