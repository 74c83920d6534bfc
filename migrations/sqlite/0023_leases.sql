-- What one server at a time does, such as publishing: who does it, and until when without a word.
CREATE TABLE leases (
    name        TEXT   NOT NULL PRIMARY KEY,
    owner       TEXT   NOT NULL, -- id of a server
    run         BIGINT NOT NULL, -- rises each time that somebody takes it
    lease_until BIGINT NOT NULL  -- by the database's clock; 0 if its owner has let go of it
);
