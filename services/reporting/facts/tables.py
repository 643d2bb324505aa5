"""The fact tables, as ClickHouse DDL with the engine as a parameter.

A row is the record as it came, read by JSONEachRow, with its place in the log beside it. Columns
have the names and defaults of the event schemas; nested objects are named tuples. Every column a
report may group by is here from the start. Amounts are exact decimals.

Merging keeps one row an id: of clicks and impressions the last in the log, of conversions the
highest version, and of equal versions the last in the log.

Each fact has, beside its record, what reports would otherwise work out per row and query: its tally
(`tallies.py`) and, in one word of few, the tally and its offer's id and name, so that a report by
offer looks at one small number a row and judges groups.

`conversion_changes` keeps every record of a conversion, in the order of the log, for the change
feed. A materialized view fills it from each insert into `conversions` rather than the sink by a
second one: the insert is confirmed once both tables have its rows, is read from JSON once, and
repeating it whole is harmless to both. Its key is the place in the log, so a record that is stored
again is the same row, and copying rows between two databases that overlap cannot double any.
"""
# ruff: noqa: S608 - the text is made of this file's own words only

import re
from dataclasses import dataclass
from typing import Final

from services.reporting.facts import tallies
from shared.clickhouse import ClickHouse

ENGINE: Final = "ReplacingMergeTree({version})"
"""The engine of embedded set-ups; a cluster sets `ReplicatedReplacingMergeTree('…', '…', …)`."""
RETENTION_DAYS: Final = 400

CLICKS: Final = "clicks"
IMPRESSIONS: Final = "impressions"
CONVERSIONS: Final = "conversions"
RATES: Final = "rates"
CHANGES: Final = "conversion_changes"
TABLE_OF_TOPIC: Final = {
    "tracking.clicks.v1": CLICKS,
    "tracking.impressions.v1": IMPRESSIONS,
    "tracking.conversions.v1": CONVERSIONS,
}

OFFER: Final = """offer Tuple(
        network_offer_id UInt64,
        network_id UInt64,
        name LowCardinality(String),
        offer_status LowCardinality(String),
        network_tracking_domain_id UInt64
    )"""

OFFER_WORD: Final = "tallied_offer"
_TALLY_DIGITS: Final = 10
_ID_DIGITS: Final = 20
_NAME_AT: Final = _TALLY_DIGITS + _ID_DIGITS

_TRACKED: Final = """
    _partition UInt16,
    _offset UInt64,
    _appended UInt64,
    network_id UInt64,
    network_affiliate_id UInt64,
    transaction_id FixedString(32),
    sub1 String,
    sub2 String,
    sub3 String,
    sub4 String,
    sub5 String,
    source_id String,
    revenue_type LowCardinality(String),
    revenue Decimal(18, 6),
    currency_id LowCardinality(String),
    coupon_code String,
    idfa String,
    idfa_md5 String,
    idfa_sha1 String,
    google_ad_id String,
    google_ad_id_md5 String,
    google_ad_id_sha1 String,
    android_id String,
    android_id_md5 String,
    android_id_sha1 String,
    creative LowCardinality(String),
    offer_url LowCardinality(String),
    tracking_domain LowCardinality(String),
    connection_type LowCardinality(String),
    is_redirect_traffic Bool,
    referer String,"""

_TRAFFIC: Final = f"""{_TRACKED}
    unix_timestamp UInt32,
    tracking_url String,
    user_ip String,
    relationship Tuple(
    {OFFER},
    geolocation Tuple(
        country_code LowCardinality(String),
        country_name LowCardinality(String),
        region_code LowCardinality(String),
        region_name LowCardinality(String),
        city_name LowCardinality(String),
        dma UInt32,
        dma_name LowCardinality(String),
        timezone LowCardinality(String),
        carrier_name LowCardinality(String),
        carrier_code UInt32,
        isp_name LowCardinality(String),
        organization LowCardinality(String),
        postal_code String,
        is_mobile Bool,
        is_proxy Bool
    ),
    device_information Tuple(
        is_mobile Bool,
        platform_name LowCardinality(String),
        os_version LowCardinality(String),
        brand LowCardinality(String),
        model LowCardinality(String),
        is_tablet Bool,
        browser_name LowCardinality(String),
        browser_version LowCardinality(String),
        device_type LowCardinality(String),
        language LowCardinality(String),
        http_accept_language LowCardinality(String),
        is_robot Bool,
        is_filter Bool
    ),
    query_parameters Map(String, String)
    ),"""

_CONVERSION: Final = f"""{_TRACKED}
    conversion_id FixedString(32),
    version UInt64,
    status LowCardinality(String),
    is_scrub Bool,
    hold Tuple(on_hold_conversion_id String, holding_period_end UInt32, status String),
    conversion_unix_timestamp UInt32,
    click_unix_timestamp UInt32,
    sale_amount Decimal(18, 6),
    is_event Bool,
    event LowCardinality(String) DEFAULT 'Base',
    is_view_through Bool,
    order_id String,
    session_user_ip String,
    conversion_user_ip String,
    http_user_agent String,
    app_id LowCardinality(String),
    adv1 String,
    adv2 String,
    adv3 String,
    adv4 String,
    adv5 String,
    country LowCardinality(String),
    country_code LowCardinality(String),
    region LowCardinality(String),
    city LowCardinality(String),
    dma UInt32,
    carrier LowCardinality(String),
    isp LowCardinality(String),
    platform LowCardinality(String),
    os_version LowCardinality(String),
    device_type LowCardinality(String),
    device_model LowCardinality(String),
    brand LowCardinality(String),
    browser LowCardinality(String),
    language LowCardinality(String),
    relationship Tuple(
    {OFFER},
    events_count UInt32
    ),"""

_CLICK: Final = f"""{_TRAFFIC}
    is_unique UInt8,
    error_code UInt32,
    error_message String DEFAULT 'N/A',"""

_VERSION: Final = """
    _version UInt128
        MATERIALIZED bitOr(bitShiftLeft(toUInt128(version), 64), toUInt128(_offset)),"""


def _table(
    name: str, columns: str, *, key: str, stamp: str, version: str, engine: str, days: int
) -> str:
    return f"""
CREATE TABLE IF NOT EXISTS {name} ({columns}
    date Date MATERIALIZED toDate(toDateTime({stamp}, 'UTC')),
    INDEX by_id {key} TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {engine.format(version=version)}
PARTITION BY toYYYYMM(date)
ORDER BY (network_id, network_affiliate_id, date, {key})
TTL date + toIntervalDay({days})
SETTINGS ttl_only_drop_parts = 1, old_parts_lifetime = 60
"""


def _changes(engine: str, *, days: int) -> str:
    """Rows are removed a while after they are told to beginners last: those may go on meanwhile."""
    appended = "toDateTime(intDiv(_appended, 1000), 'UTC')"
    return f"""
CREATE TABLE IF NOT EXISTS {CHANGES} ({_CONVERSION}
    INDEX by_id conversion_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {engine.format(version="_offset")}
PARTITION BY toYYYYMM({appended})
ORDER BY (network_id, network_affiliate_id, _offset)
TTL {appended} + toIntervalDay({days + 2})
SETTINGS ttl_only_drop_parts = 1, old_parts_lifetime = 60, index_granularity = 1024
"""


_CHANGES_FEED: Final = f"""
CREATE MATERIALIZED VIEW IF NOT EXISTS {CHANGES}_feed TO {CHANGES} AS SELECT * FROM {CONVERSIONS}
"""


@dataclass(frozen=True, slots=True)
class Word:
    """What a word like `OFFER_WORD` says: a tally, and the id and the name of a thing."""

    tally: int
    id: int
    name: str

    @classmethod
    def read(cls, word: str) -> "Word":
        """What one says."""
        return cls(int(word[:_TALLY_DIGITS]), int(word[_TALLY_DIGITS:_NAME_AT]), word[_NAME_AT:])

    @staticmethod
    def sql(word: str) -> tuple[str, str, str]:
        """Expressions for the three of an expression for a word."""
        return (
            f"toUInt32(left({word}, {_TALLY_DIGITS}))",
            f"toUInt64(substring({word}, {_TALLY_DIGITS + 1}, {_ID_DIGITS}))",
            f"substring({word}, {_NAME_AT + 1})",
        )


def _word_of_offer() -> str:
    offer = "relationship.offer"
    tally = f"leftPad(toString({tallies.TALLY}), {_TALLY_DIGITS}, '0')"
    digits = f"leftPad(toString({offer}.network_offer_id), {_ID_DIGITS}, '0')"
    return f"concat({tally}, {digits}, {offer}.name)"


DERIVED: Final = tuple(
    (table, *column)
    for table, tally in (
        (CLICKS, tallies.OF_CLICK),
        (IMPRESSIONS, tallies.OF_IMPRESSION),
        (CONVERSIONS, tallies.OF_CONVERSION),
    )
    for column in (
        (tallies.TALLY, "UInt32", f"toUInt32({tally})"),
        (OFFER_WORD, "LowCardinality(String)", _word_of_offer()),
    )
)
"""Table, name, type and expression; added to tables that were made without them as well."""
_OUTDATED: Final = (
    (CLICKS, "outcome"),
    *((table, "named_offer") for table in (CLICKS, IMPRESSIONS, CONVERSIONS)),
)
"""What an earlier release derived."""


def _derived(table: str, name: str, kind: str, expression: str) -> str:
    return f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {kind} MATERIALIZED {expression}"


def _rates(engine: str) -> str:
    """A rate of a later version, or told again, takes the place of the one before."""
    return f"""
CREATE TABLE IF NOT EXISTS {RATES} (
    _partition UInt16,
    _offset UInt64,
    network_id UInt64,
    base_currency_id LowCardinality(String),
    currency_id LowCardinality(String),
    date Date,
    rate Decimal(38, 10),
    version UInt64
)
ENGINE = {engine.format(version="version")}
ORDER BY (network_id, date, currency_id)
"""


def statements(engine: str = ENGINE, *, retention_days: int = RETENTION_DAYS) -> tuple[str, ...]:
    """What makes a database ready; each statement may be repeated.

    Args:
        engine: the table engine with a place for `{version}`, the version column.
        retention_days: how long facts are kept, by the day they happened.
    """
    return (
        _table(
            CLICKS,
            _CLICK,
            key="transaction_id",
            stamp="unix_timestamp",
            version="_offset",
            engine=engine,
            days=retention_days,
        ),
        _table(
            IMPRESSIONS,
            _TRAFFIC,
            key="transaction_id",
            stamp="unix_timestamp",
            version="_offset",
            engine=engine,
            days=retention_days,
        ),
        _table(
            CONVERSIONS,
            f"{_CONVERSION}{_VERSION}",
            key="conversion_id",
            stamp="conversion_unix_timestamp",
            version="_version",
            engine=engine,
            days=retention_days,
        ),
        *(f"ALTER TABLE {table} DROP COLUMN IF EXISTS {name}" for table, name in _OUTDATED),
        *(_derived(*each) for each in DERIVED),
        _rates(engine),
        _changes(engine, days=retention_days),
        _CHANGES_FEED,
    )


def columns_of(table: str) -> frozenset[str]:
    """What the rows of a table of facts have, as records come, and what is derived of it."""
    text = {CLICKS: _CLICK, IMPRESSIONS: _TRAFFIC, CONVERSIONS: _CONVERSION}[table]
    while (without := re.sub(r"\([^()]*\)", "", text)) != text:
        text = without
    derived = {name for of, name, *_ in DERIVED if of == table}
    return frozenset({"date", *derived, *re.findall(r"^\s*(\w+) ", text, re.MULTILINE)})


async def prepare(
    clickhouse: ClickHouse, engine: str = ENGINE, *, retention_days: int = RETENTION_DAYS
) -> None:
    """Make the tables that are missing; arguments as of `statements`."""
    for statement in statements(engine, retention_days=retention_days):
        await clickhouse.command(statement)
