-- The Director: dependencies of images, the inventory of vehicles, what they run and are to run.

-- JSON arrays of constraints, such as ["gateway>=42"].
ALTER TABLE images ADD COLUMN requires TEXT NOT NULL DEFAULT '[]';
ALTER TABLE images ADD COLUMN conflicts TEXT NOT NULL DEFAULT '[]';

-- Tokens of suppliers may upload below one folder only.
ALTER TABLE tokens ADD COLUMN path_prefix TEXT;

-- The inventory (Uptane 2.1.0, 5.3.2.2). Serving vehicles adds no row and changes none; registration and approved
-- replacements of ECUs do.
CREATE TABLE vehicles (
    id           INTEGER NOT NULL PRIMARY KEY, -- what logs show: a VIN identifies a person's property
    vin          TEXT    NOT NULL UNIQUE,
    ecus         TEXT    NOT NULL, -- JSON array, the Primary first: serials, hardware ids, public keys
    token_sha256 TEXT    UNIQUE,   -- of the vehicle's own bearer token
    created_at   BIGINT  NOT NULL,
    created_by   TEXT    NOT NULL  -- id of a token
);

-- Every serial that was ever in a vehicle, so that none is in two.
CREATE TABLE ecus (
    serial      TEXT   NOT NULL PRIMARY KEY,
    vehicle_id  BIGINT NOT NULL,
    hardware_id TEXT   NOT NULL,
    retired_at  BIGINT -- when it was replaced
);
CREATE INDEX ecus_by_vehicle ON ecus (vehicle_id);

-- What each poll changes. A vehicle's status changes only from the revision on which the change was decided. One row is
-- written a poll, so it is kept small and out of indexes: silent vehicles are counted by reading all rows.
CREATE TABLE vehicle_polls (
    vehicle_id INTEGER NOT NULL PRIMARY KEY,
    revision   BIGINT  NOT NULL DEFAULT 0,    -- rises with every change, also of vehicle_status
    counters   TEXT    NOT NULL DEFAULT '{}', -- JSON: of the last accepted report of each ECU
    seen_at    BIGINT                         -- when a manifest was accepted last
);

-- What changes when there is news of a vehicle, or for it.
CREATE TABLE vehicle_status (
    vehicle_id        INTEGER NOT NULL PRIMARY KEY,
    ecus              TEXT    NOT NULL DEFAULT '{}', -- JSON: installed, offered and assigned images, by ECU
    quarantined_at    BIGINT,
    quarantine_reason TEXT,
    bundle            TEXT                           -- JSON: the signed metadata for this vehicle
);
CREATE INDEX vehicle_status_by_quarantine ON vehicle_status (quarantined_at);

CREATE TABLE assignments (
    id              TEXT   NOT NULL PRIMARY KEY,
    vehicle_id      BIGINT NOT NULL,
    ecu_serial      TEXT   NOT NULL,
    image_path      TEXT   NOT NULL,
    rollback_reason TEXT, -- why the release counter was allowed to go down
    created_at      BIGINT NOT NULL,
    created_by      TEXT   NOT NULL,
    ended_at        BIGINT,
    outcome         TEXT -- installed, cancelled, superseded, withdrawn
);
CREATE INDEX assignments_by_vehicle ON assignments (vehicle_id, created_at);
CREATE INDEX assignments_by_ecu ON assignments (ecu_serial, image_path);

-- A permission to replace an ECU, given by a person, for a while.
CREATE TABLE ecu_replacements (
    vehicle_id  BIGINT NOT NULL,
    ecu_serial  TEXT   NOT NULL, -- the one that goes
    approved_at BIGINT NOT NULL,
    approved_by TEXT   NOT NULL,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT,
    PRIMARY KEY (vehicle_id, ecu_serial)
);

-- What happened to each vehicle. Never changed but for the count of events that are alike.
CREATE TABLE vehicle_events (
    id         INTEGER NOT NULL PRIMARY KEY,
    vin        TEXT    NOT NULL, -- also of vehicles that are not registered
    kind       TEXT    NOT NULL,
    ecu_serial TEXT,
    detail     TEXT    NOT NULL,
    actor      TEXT    NOT NULL, -- id of a token, `vehicle` or `server`
    at         BIGINT  NOT NULL,
    alike      TEXT    UNIQUE, -- events with the same text here are counted as one
    count      BIGINT  NOT NULL,
    last_at    BIGINT  NOT NULL
);
CREATE INDEX vehicle_events_by_vin ON vehicle_events (vin, id);

-- The Director's root chain. Every version stays.
CREATE TABLE director_roots (
    version    BIGINT NOT NULL PRIMARY KEY,
    body       BLOB   NOT NULL,
    expires_at BIGINT NOT NULL
);

-- The version of all vehicles' Director metadata comes from one sequence, so that a file that is signed later has a higher
-- version than any before it, whichever vehicle it is for.
CREATE TABLE sequences (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL -- the last number that was handed out
);
INSERT INTO sequences (name, value) VALUES ('director', 0);
