-- Images whose files are kept for longer, or are gone. What is not here was yanked or not, and has its files.
CREATE TABLE image_retention (
    path         TEXT   NOT NULL PRIMARY KEY,
    retain_until BIGINT, -- not removed before
    collected_at BIGINT, -- when it was decided to remove its files: from then on nothing may want them
    removed_at   BIGINT  -- when they were gone
);
CREATE INDEX images_by_yank ON images (yanked_at);
CREATE INDEX assignments_by_image ON assignments (image_path) WHERE ended_at IS NULL;
