-- Uploads that can be resumed: what a server needs to go on with one, and no more once it has ended.
CREATE TABLE uploads (
    id          TEXT   NOT NULL PRIMARY KEY,
    path        TEXT   NOT NULL, -- where the image goes
    request     TEXT   NOT NULL, -- JSON: what was said of it at its creation
    length      BIGINT NOT NULL, -- of the image in bytes
    received    BIGINT NOT NULL, -- bytes of it that are kept
    state       TEXT   NOT NULL, -- open, complete, ended
    parts       TEXT   NOT NULL, -- names the sealed bytes in the blob store
    wrapped_key TEXT   NOT NULL, -- envelope of the data key, for the escrow key alone; empty once it has ended
    checkpoint  BLOB   NOT NULL, -- from where sealing goes on, encrypted under the data key; empty once it has ended
    intents     TEXT   NOT NULL, -- JSON: digests of the blocks from the checkpoint on that may have left a process
    created_at  BIGINT NOT NULL,
    created_by  TEXT   NOT NULL, -- id of a token
    expires_at  BIGINT NOT NULL,
    owner       TEXT   NOT NULL, -- the server that takes bytes in, or did last
    lease_until BIGINT NOT NULL, -- when another request may do so
    run         BIGINT NOT NULL  -- rises each time that one does
);
CREATE INDEX uploads_by_state ON uploads (state, expires_at);
CREATE INDEX uploads_by_creator ON uploads (created_by, state);
