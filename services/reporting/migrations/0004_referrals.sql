-- What partners earned by referring others, one row an amount; removed ones as in 0001.
--
-- `amount` is exact, so that totals are; nothing but the document is shown of a row.

CREATE TABLE referrals (
    network_id           bigint  NOT NULL,
    referral_history_id  bigint  NOT NULL,
    version              bigint  NOT NULL,
    network_affiliate_id bigint  NOT NULL DEFAULT 0,
    unix_timestamp       bigint  NOT NULL DEFAULT 0,
    status               text    NOT NULL DEFAULT '',
    currency_id          text    NOT NULL DEFAULT '',
    amount               numeric NOT NULL DEFAULT 0,
    document             json,
    removal_id           text,
    PRIMARY KEY (network_id, referral_history_id)
);

CREATE INDEX referrals_of_partner
    ON referrals (network_id, network_affiliate_id, unix_timestamp, referral_history_id)
    WHERE document IS NOT NULL;

ALTER TABLE referrals ENABLE ROW LEVEL SECURITY;
ALTER TABLE referrals FORCE ROW LEVEL SECURITY;
CREATE POLICY of_the_scope ON referrals
    USING (
        is_projecting()
        OR (
            network_id = scoped('network_id')
            AND network_affiliate_id = scoped('network_affiliate_id')
        )
    );
