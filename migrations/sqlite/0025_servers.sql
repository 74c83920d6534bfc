-- Which servers use this database; each says so again and again, as it does in `leases`.
CREATE TABLE servers (
    id          TEXT   NOT NULL PRIMARY KEY,
    process     TEXT   NOT NULL, -- made anew at each start
    place       TEXT   NOT NULL, -- tells its directory, on a machine that is up, from all others
    blobs       TEXT   NOT NULL, -- 'shared', or 'own' if they are in its state directory
    described   TEXT   NOT NULL, -- host, process and directory, for people
    lease_until BIGINT NOT NULL  -- by the database's clock; 0 if it has left
);
