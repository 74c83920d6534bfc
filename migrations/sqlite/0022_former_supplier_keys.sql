-- Keys that a supplier had and lost to others: none of them is to sign again. Those of suppliers who
-- were removed stand in `suppliers`.
CREATE TABLE former_supplier_keys (
    supplier TEXT NOT NULL,
    keys TEXT NOT NULL,
    replaced_at BIGINT NOT NULL
);
