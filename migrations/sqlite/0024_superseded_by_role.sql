-- A publication dates the envelopes that it replaces.
CREATE INDEX superseded_envelopes_by_role ON superseded_envelopes (role, change);
