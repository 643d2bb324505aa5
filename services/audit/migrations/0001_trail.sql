-- The trail. `content` is the text that is hashed; every column that is searched is generated from
-- it, so that no column can say anything else than the chain does. Rows are only ever inserted.
CREATE TABLE entries (
    content text NOT NULL,
    hash text NOT NULL,
    network_id bigint NOT NULL
        GENERATED ALWAYS AS ((content::jsonb ->> 'network_id')::bigint) STORED,
    sequence bigint NOT NULL
        GENERATED ALWAYS AS ((content::jsonb ->> 'sequence')::bigint) STORED,
    event_id text NOT NULL
        GENERATED ALWAYS AS (content::jsonb ->> 'event_id') STORED,
    kind text NOT NULL
        GENERATED ALWAYS AS (content::jsonb ->> 'kind') STORED,
    occurred_at double precision NOT NULL
        GENERATED ALWAYS AS ((content::jsonb ->> 'occurred_at')::double precision) STORED,
    network_affiliate_id bigint NOT NULL
        GENERATED ALWAYS AS ((content::jsonb ->> 'network_affiliate_id')::bigint) STORED,
    key_id text NOT NULL
        GENERATED ALWAYS AS (content::jsonb ->> 'key_id') STORED,
    PRIMARY KEY (network_id, sequence),
    UNIQUE (network_id, event_id)
);

CREATE INDEX entries_by_kind ON entries (network_id, kind, sequence);
CREATE INDEX entries_by_partner ON entries (network_id, network_affiliate_id, sequence);
CREATE INDEX entries_by_key ON entries (network_id, key_id, sequence) WHERE key_id <> '';
CREATE INDEX entries_by_time ON entries (network_id, occurred_at);

-- The end of each network's chain. Whoever appends holds the row's lock until commit, so that
-- entries become visible in the order of their sequence.
CREATE TABLE heads (
    network_id bigint PRIMARY KEY,
    sequence bigint NOT NULL,
    hash text NOT NULL
);

CREATE TABLE anomalies (
    anomaly_id text PRIMARY KEY,
    network_id bigint NOT NULL,
    network_affiliate_id bigint NOT NULL,
    rule text NOT NULL,
    window_start bigint NOT NULL,
    opened_at double precision,
    closed_at double precision,
    detail text NOT NULL
);

CREATE INDEX anomalies_by_network ON anomalies (network_id, window_start DESC, anomaly_id DESC);

-- Where the projections go on; moved in the transaction that makes a batch's effects.
CREATE TABLE projection_offsets (
    projection  text     NOT NULL,
    topic       text     NOT NULL,
    partition   integer  NOT NULL,
    next_offset bigint   NOT NULL,
    attempts    smallint NOT NULL DEFAULT 0,
    attempt_end bigint   NOT NULL DEFAULT 0,
    PRIMARY KEY (projection, topic, partition)
);
