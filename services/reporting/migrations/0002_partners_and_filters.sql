-- Partners as the log tells of them, and what lists of offers are filtered by.

CREATE TABLE partners (
    network_id           bigint NOT NULL,
    network_affiliate_id bigint NOT NULL,
    version              bigint NOT NULL,
    document             json,
    removal_id           text,
    PRIMARY KEY (network_id, network_affiliate_id)
);

ALTER TABLE partners ENABLE ROW LEVEL SECURITY;
ALTER TABLE partners FORCE ROW LEVEL SECURITY;
CREATE POLICY of_the_scope ON partners
    USING (
        is_projecting()
        OR (
            network_id = scoped('network_id')
            AND network_affiliate_id = scoped('network_affiliate_id')
        )
    );

-- Members of the document that queries compare. They cannot be taken from it in the database, which
-- refuses to read a document with an escaped NUL. They hold where `described` is the row's version:
-- a row that the release before this one has written is treated as private until it is read again.
ALTER TABLE offers
    ADD COLUMN described           bigint,
    ADD COLUMN name                text,
    ADD COLUMN offer_status        text,
    ADD COLUMN visibility          text,
    ADD COLUMN currency_id         text,
    ADD COLUMN network_category_id bigint,
    ADD COLUMN time_created        bigint,
    ADD COLUMN time_saved          bigint;

-- The log holds the latest record of every offer: read it again from its beginning.
DELETE FROM projection_offsets WHERE topic = 'network.offers.v1';
