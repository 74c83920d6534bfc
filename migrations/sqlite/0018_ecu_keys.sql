-- Who may have its encryption key changed, and to which key. The change itself is in `vehicles.ecus`, and in the log.
CREATE TABLE ecu_key_approvals (
    vehicle_id  BIGINT NOT NULL,
    ecu_serial  TEXT   NOT NULL,
    kid         TEXT   NOT NULL, -- of the new key
    approved_at BIGINT NOT NULL,
    approved_by TEXT   NOT NULL,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT,
    PRIMARY KEY (vehicle_id, ecu_serial)
);
