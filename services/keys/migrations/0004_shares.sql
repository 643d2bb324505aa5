-- Single-use links to a key. `digest` is the SHA-256 of the link's token, which is kept nowhere.
-- `passphrase` is a salt and a scrypt hash, and is emptied when the link ends. Times are seconds,
-- UTC. Whether a link has expired is a matter of the clock: its status stays `open`.
CREATE TABLE shares (
    share_id text PRIMARY KEY,
    network_id bigint NOT NULL,
    key_id text NOT NULL REFERENCES keys (key_id),
    digest text NOT NULL UNIQUE,
    has_passphrase boolean NOT NULL,
    passphrase bytea NOT NULL,
    created_at double precision NOT NULL,
    created_by text NOT NULL,
    created_by_name text NOT NULL,
    expires_at double precision NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'used', 'withdrawn', 'locked')),
    ended_at double precision CHECK ((ended_at IS NULL) = (status = 'open')),
    ended_ip text NOT NULL,
    wrong_passphrases smallint NOT NULL,
    told_at double precision NOT NULL,
    CHECK (status = 'open' OR passphrase = '')
);

CREATE INDEX shares_of_key ON shares (key_id, created_at DESC, share_id DESC);
CREATE INDEX shares_to_purge ON shares (created_at);
