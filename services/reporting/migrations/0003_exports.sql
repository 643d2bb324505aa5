-- Export jobs: what was asked, how far each is, and where it goes on after a crash.
--
-- `day`, `after_id`, `rows` and `bytes` are one checkpoint: the file's first `bytes` bytes hold the
-- rows before that place. `fence` grows each time a worker takes the job: whoever held it before
-- cannot write its progress any more. `failures` counts takings without progress.

CREATE TABLE exports (
    export_id            text PRIMARY KEY,
    network_id           bigint  NOT NULL,
    network_affiliate_id bigint  NOT NULL,
    request              json    NOT NULL,
    state                text    NOT NULL DEFAULT 'queued',
    reason               text    NOT NULL DEFAULT '',
    created_at           double precision NOT NULL,
    through              double precision NOT NULL,
    finished_at          double precision,
    fence                bigint  NOT NULL DEFAULT 0,
    failures             integer NOT NULL DEFAULT 0,
    day                  integer NOT NULL DEFAULT 0,
    days                 integer NOT NULL DEFAULT 0,
    after_id             text    NOT NULL DEFAULT '',
    rows                 bigint  NOT NULL DEFAULT 0,
    bytes                bigint  NOT NULL DEFAULT 0,
    sha256               text    NOT NULL DEFAULT ''
);

CREATE INDEX exports_of_partner ON exports (network_id, network_affiliate_id, created_at);
CREATE INDEX exports_open ON exports (created_at) WHERE state IN ('queued', 'running');

ALTER TABLE exports ENABLE ROW LEVEL SECURITY;
ALTER TABLE exports FORCE ROW LEVEL SECURITY;
CREATE POLICY of_the_scope ON exports
    USING (
        is_projecting()
        OR (
            network_id = scoped('network_id')
            AND network_affiliate_id = scoped('network_affiliate_id')
        )
    );
