-- What was published when: which numbers, times and files are not to be gone back behind.

-- Timestamps of the Image repository that somebody may still go by; the files that they lead to are kept for these.
CREATE TABLE published_timestamps (
    version    BIGINT NOT NULL PRIMARY KEY,
    snapshot   BIGINT NOT NULL, -- version of the snapshot that it names
    signed_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- `signed`: when something was signed last. `before_leap` and `after_leap`: between which two times the clock went on further
-- than a server lets pass without signing. `watched`: since when `published_timestamps` has all there are.
CREATE TABLE moments (
    name TEXT   NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL
);
