-- Work that takes long: who runs it, how far it is, and from where it goes on.
CREATE TABLE jobs (
    id           TEXT   NOT NULL PRIMARY KEY, -- rises with the time at which it was made
    kind         TEXT   NOT NULL,
    parameters   TEXT   NOT NULL,             -- JSON object
    state        TEXT   NOT NULL,             -- queued, running, done, failed, cancelled
    checkpoint   TEXT   NOT NULL,             -- JSON: from where the next step goes on
    phase        TEXT   NOT NULL,             -- what is being done, for people
    done         BIGINT NOT NULL,             -- of `total`, in whatever the phase counts
    total        BIGINT NOT NULL,
    result       TEXT,                        -- JSON
    error        TEXT,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,             -- id of a token
    started_at   BIGINT,
    ended_at     BIGINT,
    owner        TEXT,                        -- the server that runs it
    lease_until  BIGINT NOT NULL,             -- when another server may take it over
    run          BIGINT NOT NULL,             -- rises each time that a server takes it
    stalled      BIGINT NOT NULL,             -- how often it was taken since it last got on
    is_cancelled BIGINT NOT NULL              -- whether its owner is to stop
);
CREATE INDEX jobs_by_state ON jobs (state, id);
