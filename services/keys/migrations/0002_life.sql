-- Processes of the first release cannot write beside this schema: stop them before it is applied.
--
-- The whole life of a key. `not_before` 0 means from the start. A rotation links two keys: the one
-- that was rotated at `rotated_at` names its successor, and that one its predecessor.
ALTER TABLE keys
    ADD COLUMN not_before double precision NOT NULL DEFAULT 0,
    ADD COLUMN created_by_name text NOT NULL DEFAULT '',
    ADD COLUMN predecessor_key_id text,
    ADD COLUMN successor_key_id text,
    ADD COLUMN rotated_at double precision,
    ADD CONSTRAINT keys_rotated_to CHECK ((successor_key_id IS NULL) = (rotated_at IS NULL));

-- One active key an integration, however its name is capitalised; one that was rotated lives on
-- beside its successor, of which it has one.
DROP INDEX keys_one_an_integration;
CREATE UNIQUE INDEX keys_one_an_integration
    ON keys (network_id, network_affiliate_id, lower(integration))
    WHERE status = 'active' AND successor_key_id IS NULL;
CREATE UNIQUE INDEX keys_one_successor
    ON keys (predecessor_key_id) WHERE predecessor_key_id IS NOT NULL;

-- What holds a partner: its network's staff, or the status of its account. Until now only the
-- status could.
ALTER TABLE partner_access
    ADD COLUMN held_by_staff boolean NOT NULL DEFAULT false,
    ADD COLUMN held_by_status boolean NOT NULL DEFAULT false;
UPDATE partner_access SET held_by_status = suspended;
ALTER TABLE partner_access DROP COLUMN suspended;
ALTER TABLE partner_access ADD COLUMN suspended boolean
    GENERATED ALWAYS AS (held_by_staff OR held_by_status) STORED;

-- What was answered to a request with an Idempotency-Key; never with the secret. A row is made in
-- the transaction that makes the key.
CREATE TABLE idempotent_answers (
    network_id bigint NOT NULL,
    subject text NOT NULL,
    idempotency_key text NOT NULL,
    request_digest text NOT NULL,
    key_id text NOT NULL DEFAULT '',
    status integer NOT NULL DEFAULT 0,
    answer jsonb NOT NULL DEFAULT '{}',
    created_at double precision NOT NULL,
    PRIMARY KEY (network_id, subject, idempotency_key)
);
CREATE INDEX idempotent_answers_oldest ON idempotent_answers (created_at);
