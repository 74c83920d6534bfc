-- Metadata that people sign elsewhere: what the next file of a role is to say, and the signatures that came in for it. One
-- staging a role, of a top-level role or of one that targets delegate to.
CREATE TABLE staged_metadata (
    side       TEXT   NOT NULL, -- image, director
    role       TEXT   NOT NULL,
    base       BIGINT NOT NULL, -- the version that was published when it was staged
    version    BIGINT NOT NULL, -- its own
    content    BLOB   NOT NULL, -- what is signed, as it stands in the file
    revision   BIGINT NOT NULL, -- from the sequence `staging`: never used twice, whatever is staged
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL, -- id of a token
    PRIMARY KEY (side, role)
);

CREATE TABLE staged_signatures (
    side       TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    key_id     TEXT   NOT NULL,
    signature  TEXT   NOT NULL, -- hexadecimal
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    PRIMARY KEY (side, role, key_id)
);

INSERT INTO sequences (name, value) VALUES ('staging', 0);
