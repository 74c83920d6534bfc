-- The Director: dependencies of images, the inventory of vehicles, what they run and are to run.

-- JSON arrays of constraints, such as ["gateway>=42"].
ALTER TABLE images ADD COLUMN requires TEXT NOT NULL DEFAULT '[]';
ALTER TABLE images ADD COLUMN conflicts TEXT NOT NULL DEFAULT '[]';
