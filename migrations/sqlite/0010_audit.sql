-- Who changed what, in the order of the changes; written with each change or not at all, and never changed. A row's hash
-- covers its fields and the hash of the row before it, so that none can be changed, left out or moved without a trace.
CREATE TABLE audit (
    seq        BIGINT NOT NULL PRIMARY KEY, -- from 1, without a gap
    at         BIGINT NOT NULL,
    kind       TEXT   NOT NULL,
    actor_kind TEXT   NOT NULL, -- token, vehicle, local, server
    actor      TEXT   NOT NULL, -- id of a token, id of a vehicle, number of a user
    actor_role TEXT,            -- of a token
    subject    TEXT   NOT NULL, -- path of an image, id of a key, a token or a vehicle
    detail     TEXT   NOT NULL, -- JSON object
    request_id TEXT,
    hash       TEXT   NOT NULL
);
CREATE INDEX audit_by_kind ON audit (kind, seq);
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_subject ON audit (subject, seq);

-- The last row's number and hash. It is also what changes that are made beside each other wait for.
CREATE TABLE audit_head (
    name TEXT   NOT NULL PRIMARY KEY, -- head
    seq  BIGINT NOT NULL,
    hash TEXT   NOT NULL
);
INSERT INTO audit_head (name, seq, hash)
VALUES ('head', 0, '0000000000000000000000000000000000000000000000000000000000000000');
