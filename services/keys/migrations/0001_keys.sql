-- Keys. A row is never deleted. `sealed` is the secret under its network's data key, which `data_keys`
-- holds wrapped by the master key; `digest` is the SHA-256 that the doors compare with. Times are
-- seconds, UTC.
CREATE TABLE keys (
    key_id text PRIMARY KEY,
    network_id bigint NOT NULL,
    network_affiliate_id bigint NOT NULL,
    integration text NOT NULL,
    digest text NOT NULL UNIQUE,
    masked text NOT NULL,
    sealed bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'revoked', 'expired')),
    allowlist text[] NOT NULL,
    expires_at double precision,
    version bigint NOT NULL CHECK (version >= 1),
    created_at double precision NOT NULL,
    created_by text NOT NULL,
    ended_at double precision CHECK ((ended_at IS NULL) = (status = 'active'))
);

-- One active key an integration, however its name is capitalised.
CREATE UNIQUE INDEX keys_one_an_integration
    ON keys (network_id, network_affiliate_id, lower(integration)) WHERE status = 'active';
CREATE INDEX keys_newest_first ON keys (network_id, created_at DESC, key_id DESC);
CREATE INDEX keys_of_partner
    ON keys (network_id, network_affiliate_id, created_at DESC, key_id DESC);
CREATE INDEX keys_to_expire ON keys (expires_at) WHERE status = 'active';

CREATE TABLE data_keys (
    network_id bigint PRIMARY KEY,
    wrapped bytea NOT NULL
);

-- Something known, sealed under the master key: opens only under the same one.
CREATE TABLE master_key_check (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sealed bytea NOT NULL
);

-- What the doors know of a partner. Version 0: nothing has been published yet.
CREATE TABLE partner_access (
    network_id bigint NOT NULL,
    network_affiliate_id bigint NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    firehose_enabled boolean NOT NULL DEFAULT false,
    suspended boolean NOT NULL DEFAULT false,
    PRIMARY KEY (network_id, network_affiliate_id)
);

-- Version 0: nothing has been published yet, and the doors use the defaults, as written here.
CREATE TABLE network_budgets (
    network_id bigint PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0,
    affiliate_rate double precision NOT NULL DEFAULT 5,
    affiliate_burst integer NOT NULL DEFAULT 20,
    granular_per_hour integer NOT NULL DEFAULT 1000,
    shadow boolean NOT NULL DEFAULT false
);

-- Partners as the network's own platform tells them. A removed one stays with its version, so that
-- an older record that comes again does not bring it back.
CREATE TABLE partners (
    network_id bigint NOT NULL,
    network_affiliate_id bigint NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    account_status text NOT NULL,
    in_onboarding boolean NOT NULL,
    has_technical_capacity boolean NOT NULL,
    has_fraud_flag boolean NOT NULL,
    has_quality_flag boolean NOT NULL,
    is_removed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (network_id, network_affiliate_id)
);

-- Where the projection of partners goes on; moved in the transaction that makes a batch's effects.
CREATE TABLE projection_offsets (
    projection  text     NOT NULL,
    topic       text     NOT NULL,
    partition   integer  NOT NULL,
    next_offset bigint   NOT NULL,
    attempts    smallint NOT NULL DEFAULT 0,
    attempt_end bigint   NOT NULL DEFAULT 0,
    PRIMARY KEY (projection, topic, partition)
);

-- What is to be published, and who publishes.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    value bytea,
    headers jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
CREATE TABLE outbox_lease (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    holder text NOT NULL,
    epoch bigint NOT NULL,
    renewed_at timestamptz NOT NULL
);
INSERT INTO outbox_lease (holder, epoch, renewed_at) VALUES ('nobody yet', 0, '-infinity');
