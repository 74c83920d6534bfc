-- Times are milliseconds since 1970 in UTC; digests are lower-case hexadecimal; flags are 0 or 1.
-- Only what PostgreSQL has too, but for the names of types.

-- What CI uploaded and the server sealed. A path is used once, also after a yank.
CREATE TABLE images (
    path             TEXT   NOT NULL PRIMARY KEY,
    name             TEXT   NOT NULL,
    version          TEXT   NOT NULL,
    hardware_ids     TEXT   NOT NULL, -- JSON array of strings
    release_counter  BIGINT NOT NULL,
    target_format    TEXT   NOT NULL,
    algorithm        TEXT   NOT NULL,
    sealed_length    BIGINT NOT NULL,
    sealed_sha256    TEXT   NOT NULL,
    plaintext_length BIGINT NOT NULL,
    plaintext_sha256 TEXT   NOT NULL,
    envelope         TEXT   NOT NULL, -- JWE with the escrow entry; never leaves the server as it is
    created_at       BIGINT NOT NULL,
    created_by       TEXT   NOT NULL, -- id of a token
    yanked_at        BIGINT
);

-- Entries of the Image repository's targets files: each image, and each image's envelope.
CREATE TABLE targets (
    path       TEXT   NOT NULL PRIMARY KEY,
    role       TEXT   NOT NULL, -- the hash bin that lists it
    length     BIGINT NOT NULL,
    sha256     TEXT   NOT NULL,
    custom     TEXT -- JSON object
);
CREATE INDEX targets_by_role ON targets (role, path);

-- Every metadata role of the Image repository. A version is reserved, and that committed, before a file of that version
-- exists, so that no crash can lead to two files of one version.
CREATE TABLE roles (
    name              TEXT   NOT NULL PRIMARY KEY,
    version           BIGINT NOT NULL, -- published; 0 before the first
    reserved          BIGINT NOT NULL, -- highest version handed out
    changes           BIGINT NOT NULL, -- counts changes of what the role lists
    published_changes BIGINT NOT NULL, -- of these, how many the published version has
    length            BIGINT NOT NULL,
    sha256            TEXT   NOT NULL,
    expires_at        BIGINT NOT NULL,
    body              BLOB -- the file itself, for `timestamp` alone: its name is replaced, not added
);

-- Blobs that are about to be stored for an image that isn't accepted yet: what a crash would leave behind.
CREATE TABLE pending_blobs (
    name       TEXT   NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE recipients (
    hardware_id TEXT   NOT NULL,
    kid         TEXT   NOT NULL, -- RFC 7638 thumbprint
    jwk         TEXT   NOT NULL, -- public members only
    created_at  BIGINT NOT NULL,
    created_by  TEXT   NOT NULL,
    PRIMARY KEY (hardware_id, kid)
);
CREATE INDEX recipients_by_kid ON recipients (kid);

CREATE TABLE tokens (
    id         TEXT   NOT NULL PRIMARY KEY,
    sha256     TEXT   NOT NULL UNIQUE, -- of the token, which has 256 random bits and so needs no slow hash
    role       TEXT   NOT NULL,
    label      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
