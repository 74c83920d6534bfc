-- What an installation was made with, so that a file that was exchanged is noticed. `escrow_proof` is an envelope (JSON) of a
-- key that nothing else uses, for the escrow key alone: whatever opens it is that key.
CREATE TABLE installation (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- The oldest and the newest images are looked at when a server starts.
CREATE INDEX images_by_age ON images (created_at);
