-- Suppliers who keep their keys: what the server stages for them is published once they have signed it.
ALTER TABLE suppliers ADD COLUMN offline BIGINT NOT NULL DEFAULT 0; -- whether the keys are with the supplier

-- How many changes of what the role lists the staged file has; 0 for a role that lists nothing.
ALTER TABLE staged_metadata ADD COLUMN changes BIGINT NOT NULL DEFAULT 0;
