-- When keys were last used. One row a key, made in the transaction that makes the key, so that the
-- table of keys always joins. Nothing here refers to `keys`: a foreign key would lock the key's row
-- whenever a row is added here, and a revocation would wait. Times are seconds, UTC; 0: never.
--
-- `used_at` decides what came last; `last_used_at`, what people see and what is sorted by, moves
-- once a minute. Between those moves no indexed column changes, and the free space of each page
-- takes the new version of a row, so an update touches no index.
CREATE TABLE key_usage (
    key_id text PRIMARY KEY,
    network_id bigint NOT NULL,
    used_at double precision NOT NULL DEFAULT 0,
    last_used_at double precision NOT NULL GENERATED ALWAYS AS (floor(used_at / 60) * 60) STORED,
    last_ip text NOT NULL DEFAULT '',
    last_endpoint text NOT NULL DEFAULT '',
    -- Days since 1970 of the last use, and how many uses there were on that day.
    day integer NOT NULL GENERATED ALWAYS AS (floor(used_at / 86400)::integer) STORED,
    count_on_day bigint NOT NULL DEFAULT 0,
    -- The last use of the eleventh most recent source network; 0 while there are fewer.
    many_networks_at double precision NOT NULL DEFAULT 0,
    refused_at double precision NOT NULL DEFAULT 0,
    refused_ip text NOT NULL DEFAULT '',
    refused_reason text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);
CREATE INDEX key_usage_by_last_use ON key_usage (network_id, last_used_at, key_id);

-- Who uses a key: its most recent source networks, at most a hundred a key. `day` serves forgetting.
CREATE TABLE key_sources (
    key_id text NOT NULL,
    source text NOT NULL,
    used_at double precision NOT NULL,
    last_ip text NOT NULL,
    last_endpoint text NOT NULL,
    day integer NOT NULL GENERATED ALWAYS AS (floor(used_at / 86400)::integer) STORED,
    count_on_day bigint NOT NULL,
    PRIMARY KEY (key_id, source)
) WITH (fillfactor = 70);
CREATE INDEX key_sources_by_day ON key_sources (day);

-- Which records the batches of some hours held, by digest, so that one sent again counts once. A
-- repeat tells of the same moment, so only batches whose moments overlap are looked into.
CREATE TABLE usage_batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    partition integer NOT NULL,
    written_at double precision NOT NULL,
    first_moment double precision NOT NULL,
    last_moment double precision NOT NULL,
    records uuid[] NOT NULL
);
CREATE INDEX usage_batches_by_moment ON usage_batches (topic, partition, last_moment);

CREATE FUNCTION keep_usage_of_new_keys() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO key_usage (key_id, network_id)
    SELECT key_id, network_id FROM added ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER keys_have_usage AFTER INSERT ON keys
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_of_new_keys();
INSERT INTO key_usage (key_id, network_id) SELECT key_id, network_id FROM keys;
