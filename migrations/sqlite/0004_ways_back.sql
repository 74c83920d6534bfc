-- What is to be seen of vehicles that need a person, and the ways back for them.

ALTER TABLE vehicle_status ADD COLUMN quarantine_kinds TEXT NOT NULL DEFAULT ''; -- what it is for, separated by commas
ALTER TABLE vehicle_status ADD COLUMN unexpected BIGINT NOT NULL DEFAULT 0;  -- ECUs that run what nobody gave them
ALTER TABLE vehicle_status ADD COLUMN fallen_back BIGINT NOT NULL DEFAULT 0; -- ECUs that run something older than before

-- The request by which a person did it.
ALTER TABLE vehicle_events ADD COLUMN request_id TEXT;

-- A permission to enrol anew, with other keys and counters, given by a person, for a while. By the vehicle's id: it need not
-- be registered yet.
CREATE TABLE re_enrolments (
    vin         TEXT   NOT NULL PRIMARY KEY,
    ecu_serials TEXT   NOT NULL, -- JSON array: ECUs that it may take from other vehicles
    approved_at BIGINT NOT NULL,
    approved_by TEXT   NOT NULL,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT
);

-- Vehicles' numbers come from a sequence: one that was removed must not give its number, and what is filed under it, to the
-- next one.
INSERT INTO sequences (name, value) SELECT 'vehicles', COALESCE(MAX(id), 0) FROM vehicles;

-- Few rows each.
CREATE INDEX vehicle_status_unexpected ON vehicle_status (vehicle_id) WHERE unexpected > 0;
CREATE INDEX vehicle_status_fallen_back ON vehicle_status (vehicle_id) WHERE fallen_back > 0;
