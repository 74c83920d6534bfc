-- Recipients' keys that were replaced or revoked, and what re-wrapping leaves behind.

-- Keys that images are not to be sealed for any more.
CREATE TABLE retired_recipients (
    kid        TEXT   NOT NULL PRIMARY KEY,
    successor  TEXT,                     -- the key that took its place; none of one that was revoked
    retired_at BIGINT NOT NULL,
    retired_by TEXT   NOT NULL           -- id of a token
);

-- Envelopes that were replaced by others: their files go once nobody can be led to them any more.
CREATE TABLE superseded_envelopes (
    path        TEXT   NOT NULL,         -- target path
    sha256      TEXT   NOT NULL,
    role        TEXT   NOT NULL,         -- the role that listed it
    change      BIGINT NOT NULL,         -- the number of the role's change that took it out
    replaced_at BIGINT NOT NULL,
    PRIMARY KEY (path, sha256)
);
CREATE INDEX superseded_envelopes_by_time ON superseded_envelopes (replaced_at);
