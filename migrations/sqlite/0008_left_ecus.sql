-- Counters of ECUs that have left a vehicle. Never deleted: a report that was accepted once has a valid signature for ever.
CREATE TABLE left_ecus (
    serial                  TEXT   NOT NULL,
    signing_key             TEXT   NOT NULL, -- the public key's hexadecimal digits, or its PEM without what frames it
    counter                 BIGINT, -- the highest of its accepted reports
    highest_release_counter BIGINT,
    seen_at                 BIGINT, -- when its vehicle was heard of last
    PRIMARY KEY (serial, signing_key)
);
