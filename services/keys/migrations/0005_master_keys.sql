-- Which master key a data key is wrapped under, by fingerprint. Empty: made before fingerprints were
-- kept; the next start of the service fills it in.
ALTER TABLE data_keys ADD COLUMN master_key text NOT NULL DEFAULT '';
CREATE INDEX data_keys_of_master_key ON data_keys (master_key, network_id);

-- The one row also says under which master key new data keys are wrapped. Who makes a data key holds
-- this row shared until its commit; a rotation updates it first, so that it misses none.
ALTER TABLE master_key_check ADD COLUMN fingerprint text NOT NULL DEFAULT '';

-- Which master keys the running processes hold. A rotation keeps this table from changing in each of
-- its transactions, so that no process without the new key is overlooked.
CREATE TABLE key_holders (
    holder text PRIMARY KEY,
    fingerprints text[] NOT NULL,
    seen_at timestamptz NOT NULL
);
