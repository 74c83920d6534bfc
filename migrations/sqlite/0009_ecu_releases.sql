-- What each ECU runs, so that all of a hardware id that run something older than a release are found by an index. Written
-- when an ECU reports another image than before, and so by few polls; the inventory itself is changed by none.
CREATE TABLE ecu_releases (
    serial          TEXT   NOT NULL PRIMARY KEY,
    vehicle_id      BIGINT NOT NULL,
    hardware_id     TEXT   NOT NULL,
    installed_path  TEXT   NOT NULL, -- what it last said it runs
    release_counter BIGINT           -- of that image; NULL if the Image repository has none of these bytes
);
CREATE INDEX ecu_releases_by_hardware ON ecu_releases (hardware_id, release_counter);
CREATE INDEX ecu_releases_by_vehicle ON ecu_releases (vehicle_id);
CREATE INDEX ecus_by_hardware ON ecus (hardware_id);

INSERT INTO ecu_releases (serial, vehicle_id, hardware_id, installed_path)
SELECT e.serial, e.vehicle_id, e.hardware_id, json_extract(s.ecus, '$."' || e.serial || '".installed[0]')
FROM ecus e JOIN vehicle_status s ON s.vehicle_id = e.vehicle_id
WHERE e.retired_at IS NULL AND json_extract(s.ecus, '$."' || e.serial || '".installed[0]') IS NOT NULL;

-- By its bytes: an image that only bears the name of one may be anything.
UPDATE ecu_releases SET release_counter =
    (SELECT i.release_counter FROM images i JOIN vehicle_status s ON s.vehicle_id = ecu_releases.vehicle_id
     WHERE i.path = ecu_releases.installed_path
       AND i.sealed_length = json_extract(s.ecus, '$."' || ecu_releases.serial || '".installed[1]')
       AND i.sealed_sha256 = json_extract(s.ecus, '$."' || ecu_releases.serial || '".installed[2]'));
