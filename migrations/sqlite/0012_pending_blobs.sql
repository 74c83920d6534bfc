-- Whose upload a blob was announced for, and until when that may still be going on. A start removes what is its own, from
-- before it, and what nobody holds any more.
ALTER TABLE pending_blobs ADD COLUMN owner TEXT; -- a server; none before there were owners
ALTER TABLE pending_blobs ADD COLUMN lease_until BIGINT NOT NULL DEFAULT 0;
