-- Roles that are handed over to other keys: those that come and those that leave sign together until clients have had the
-- time to learn of it.
CREATE TABLE handovers (
    side      TEXT   NOT NULL, -- image, director
    role      TEXT   NOT NULL, -- targets, bins, snapshot, timestamp
    keys      TEXT   NOT NULL, -- ids of all keys that the role is to have, JSON
    threshold BIGINT NOT NULL,
    leaving   TEXT   NOT NULL, -- ids of those that it has and is to lose, JSON
    begun_at  BIGINT NOT NULL,
    ends_at   BIGINT,          -- when those that leave stop; null until clients can see the change
    PRIMARY KEY (side, role)
);
