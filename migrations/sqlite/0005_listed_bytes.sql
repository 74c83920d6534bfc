-- How many bytes of signed metadata the entries of a role take at most, so that a file which no client would read is never
-- signed. An entry takes its path and its `custom`, and at most 160 bytes around them.
ALTER TABLE roles ADD COLUMN listed_bytes BIGINT NOT NULL DEFAULT 0;
UPDATE roles SET listed_bytes = (
    SELECT COALESCE(SUM(LENGTH(path) + COALESCE(LENGTH(custom), 0) + 160), 0) FROM targets WHERE targets.role = roles.name
);
