-- Which versions of the program have used this catalog, so that one before them can name the one it needs.
CREATE TABLE program_versions (
    version TEXT NOT NULL PRIMARY KEY,
    first_used_at BIGINT NOT NULL
);
