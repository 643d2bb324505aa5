-- The orders of the table of keys; each begins with the network and ends in the key's id, and is
-- read in both directions. The newest first are in `keys_newest_first`, the last used in
-- `key_usage_by_last_use`.
DROP INDEX keys_of_partner;
CREATE INDEX keys_of_partner ON keys (network_id, network_affiliate_id, created_at, key_id);
CREATE INDEX keys_by_status ON keys (network_id, status, created_at, key_id);
CREATE INDEX keys_by_expiry ON keys (network_id, coalesce(expires_at, 'infinity'), key_id);
CREATE INDEX keys_by_integration ON keys (network_id, lower(integration) COLLATE "C", key_id);
CREATE INDEX keys_scheduled ON keys (network_id, created_at, key_id)
    WHERE status = 'active' AND not_before > 0;
