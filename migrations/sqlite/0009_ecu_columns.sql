-- What each ECU runs, so that all of a hardware id that run something older than a release are found by an index. Written
-- when an ECU reports another image than before, and so by few polls.

ALTER TABLE ecus ADD COLUMN installed_path TEXT;    -- what it last said it runs; NULL if nothing, or once it is retired
ALTER TABLE ecus ADD COLUMN release_counter BIGINT; -- of that image; NULL if the Image repository has none of these bytes

CREATE INDEX ecus_by_release ON ecus (hardware_id, release_counter);

UPDATE ecus SET installed_path =
    (SELECT json_extract(s.ecus, '$."' || ecus.serial || '".installed[0]')
     FROM vehicle_status s WHERE s.vehicle_id = ecus.vehicle_id)
WHERE retired_at IS NULL;

-- By its bytes: an image that only bears the name of one may be anything.
UPDATE ecus SET release_counter =
    (SELECT i.release_counter FROM images i JOIN vehicle_status s ON s.vehicle_id = ecus.vehicle_id
     WHERE i.path = ecus.installed_path
       AND i.sealed_length = json_extract(s.ecus, '$."' || ecus.serial || '".installed[1]')
       AND i.sealed_sha256 = json_extract(s.ecus, '$."' || ecus.serial || '".installed[2]'))
WHERE installed_path IS NOT NULL;
