"""The scoped views: one partner's facts, the only way to read any.

Each is a SELECT in parentheses with bound parameters: what a parameterised view would be, written
into the query. ClickHouse analyses the body of a stored one twice, at every use, which took a third
of a small report's time (ADR 14).

Rows have all columns of their table and, alike in all three, the words that reports group and
filter by (`columns.py`). Tables are read with FINAL, so answers do not depend on when merges run.
"""
# ruff: noqa: S608 - the text is made of this file's own words only

from collections.abc import Mapping
from typing import Final

from services.reporting.facts.tables import CHANGES, CLICKS, CONVERSIONS, IMPRESSIONS, RATES

_SCOPE: Final = "network_id = {network:UInt64} AND network_affiliate_id = {partner:UInt64}"
_DAYS: Final = (
    " AND date >= toDate(toDateTime({since:UInt32}, 'UTC'))"
    " AND date <= toDate(toDateTime({until:UInt32}, 'UTC'))"
)
_STAMPS: Final[Mapping[str, str]] = {
    CLICKS: "unix_timestamp",
    IMPRESSIONS: "unix_timestamp",
    CONVERSIONS: "conversion_unix_timestamp",
}
_OFFER: Final = (
    "relationship.offer.network_offer_id AS offer_id, relationship.offer.name AS offer_name"
)
_OF_TRAFFIC: Final = f"""{_OFFER},
    '' AS event_name,
    relationship.geolocation.country_name AS country,
    relationship.geolocation.country_code AS country_code,
    relationship.geolocation.region_name AS region,
    relationship.geolocation.city_name AS city,
    relationship.geolocation.dma AS dma,
    relationship.geolocation.dma_name AS dma_name,
    relationship.geolocation.carrier_name AS carrier,
    relationship.geolocation.isp_name AS isp,
    relationship.device_information.platform_name AS platform,
    relationship.device_information.os_version AS os_version,
    relationship.device_information.device_type AS device_type,
    relationship.device_information.model AS device_model,
    relationship.device_information.brand AS device_make,
    relationship.device_information.browser_name AS browser,
    relationship.device_information.language AS language"""
_OF_CONVERSIONS: Final = f"{_OFFER}, event AS event_name, '' AS dma_name, brand AS device_make"
_WORDS: Final = {
    CLICKS: _OF_TRAFFIC,
    IMPRESSIONS: _OF_TRAFFIC,
    CONVERSIONS: _OF_CONVERSIONS,
}


def of_all_time(table: str) -> str:
    """The partner's facts; parameters `network` and `partner` (UInt64)."""
    return _view(table, "")


def of_days(table: str) -> str:
    """Those of the UTC days that `since` and `until` (UInt32, seconds) are in."""
    return _view(table, _DAYS)


def between(table: str) -> str:
    """Those from `since` to `until` (UInt32, seconds), both included."""
    stamp = _STAMPS[table]
    seconds = f" AND {stamp} >= {{since:UInt32}} AND {stamp} <= {{until:UInt32}}"
    return _view(table, _DAYS + seconds)


def _view(table: str, more: str) -> str:
    return (
        f"(SELECT *, date, {_STAMPS[table]} AS stamp, {_WORDS[table]}"
        f" FROM {table} FINAL WHERE {_SCOPE}{more})"
    )


CHANGES_BETWEEN: Final = (
    f"(SELECT * FROM {CHANGES} WHERE {_SCOPE}"
    " AND _offset >= {since:UInt64} AND _offset < {until:UInt64})"
)
"""The records of the partner's conversions from offset `since` to before `until` (UInt64)."""

RATES_BETWEEN: Final = (
    f"(SELECT * FROM {RATES} FINAL WHERE network_id = {{network:UInt64}}"
    " AND date >= toDate({first:Int32}) AND date <= toDate({last:Int32}))"
)
"""A network's rates of some days (Int32, since the epoch)."""
