"""The public rows: fields of conversions and clicks, as SELECTs whose rows are the wire's.

Fields and their order are the public API's. What is not named here, no partner sees of a fact.
ClickHouse writes the rows itself, as JSON or CSV, so that pages, streams and exports of millions
cannot differ; amounts are exact decimals there, written in their shortest form.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.reporting.facts import tables

_SUBS: Final = ("sub1", "sub2", "sub3", "sub4", "sub5")
_DEVICE_IDS: Final = (
    "idfa",
    "idfa_md5",
    "idfa_sha1",
    "google_ad_id",
    "google_ad_id_md5",
    "google_ad_id_sha1",
    "android_id",
    "android_id_md5",
    "android_id_sha1",
)
CONVERSION_FIELDS: Final = (
    "conversion_id",
    "conversion_unix_timestamp",
    *_SUBS,
    "source_id",
    "revenue_type",
    "sale_amount",
    "is_event",
    "is_view_through",
    "session_user_ip",
    "country",
    "region",
    "city",
    "carrier",
    "platform",
    "device_type",
    *_DEVICE_IDS,
    "transaction_id",
    "click_unix_timestamp",
    "revenue",
    "currency_id",
    "event",
    "order_id",
    "coupon_code",
    "conversion_user_ip",
    "http_user_agent",
    "language",
    "dma",
    "isp",
    "referer",
    "os_version",
    "brand",
    "browser",
    "app_id",
    "adv1",
    "adv2",
    "adv3",
    "adv4",
    "adv5",
)
CLICK_FIELDS: Final = (
    "transaction_id",
    "unix_timestamp",
    "is_unique",
    "tracking_url",
    "source_id",
    *_SUBS,
    "revenue_type",
    "revenue",
    "currency_id",
    "coupon_code",
    "referer",
    "user_ip",
    "error_code",
    "error_message",
    *_DEVICE_IDS,
)
HELD_FIELDS: Final = (
    "conversion_id",
    "transaction_id",
    "conversion_unix_timestamp",
    "revenue",
    "sale_amount",
    "event",
    *_SUBS,
)
"""What a held conversion shows of itself."""

_OFFER_FIELDS: Final = (
    "network_offer_id",
    "network_id",
    "name",
    "offer_status",
    "network_tracking_domain_id",
)
_PLACE_FIELDS: Final = (
    "country_code",
    "country_name",
    "region_code",
    "region_name",
    "city_name",
    "dma",
    "dma_name",
    "timezone",
    "carrier_name",
    "carrier_code",
    "isp_name",
    "organization",
    "postal_code",
    "is_mobile",
    "is_proxy",
)
_DEVICE_FIELDS: Final = (
    "is_mobile",
    "platform_name",
    "os_version",
    "brand",
    "model",
    "is_tablet",
    "browser_name",
    "browser_version",
    "device_type",
    "language",
    "http_accept_language",
    "is_robot",
    "is_filter",
)
_TEXT_IDS: Final = ("conversion_id", "transaction_id")

Columns = tuple[tuple[str, str], ...]
"""Name and expression of each column, over one row of the table that is called `fact`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of public row.

    Attributes:
        table: where the facts are.
        key: the column with their id, and
        stamp: the column with their time, by which with the id they are ordered.
        json: columns of the row as JSON, to be `shown`.
        csv: columns of the row as CSV: the same, and related data side by side.
    """

    table: str
    key: str
    stamp: str
    json: Columns
    csv: Columns


_NO_STATUS: Final = re.compile(rb'"offer_status":"",(?="network_tracking_domain_id":\d)')


def shown(lines: bytes) -> bytes:
    """Rows as JSON, as partners see them: a record may leave out the status of an active offer.

    No text of a record looks like what is replaced: quotes in texts are escaped, and parameters of
    a URL are texts while the id of a domain is a number.
    """
    return _NO_STATUS.sub(b'"offer_status":"active",', lines)


def selected(columns: Columns) -> str:
    """The list of a SELECT."""
    return ", ".join(f"{expression} AS {name}" for name, expression in columns)


def _plain(fields: tuple[str, ...]) -> Columns:
    """Fields as they are stored; ids, of fixed length there, as texts."""
    return tuple(
        (name, f"toString(fact.{name})" if name in _TEXT_IDS else f"fact.{name}") for name in fields
    )


def _offer() -> Iterator[tuple[str, str]]:
    """The offer beside a row of CSV; a record may leave out the status of an active one."""
    for name in _OFFER_FIELDS:
        stored = f"fact.relationship.offer.{name}"
        is_status = name == "offer_status"
        yield name, f"if({stored} = '', 'active', {stored})" if is_status else stored


_OFFER_COLUMNS: Final = tuple(
    (name if name.startswith("network_") else f"offer_{name}".replace("offer_offer", "offer"), text)
    for name, text in _offer()
    if name != "network_id"
)
_RELATED: Final = ("relationship", "fact.relationship")

CONVERSION: Final = Shape(
    table=tables.CONVERSIONS,
    key="conversion_id",
    stamp="conversion_unix_timestamp",
    json=(*_plain(CONVERSION_FIELDS), _RELATED),
    csv=(
        *_plain(CONVERSION_FIELDS),
        *_OFFER_COLUMNS,
        ("events_count", "fact.relationship.events_count"),
    ),
)
CLICK: Final = Shape(
    table=tables.CLICKS,
    key="transaction_id",
    stamp="unix_timestamp",
    json=(*_plain(CLICK_FIELDS), _RELATED),
    csv=(
        *_plain(CLICK_FIELDS),
        *_OFFER_COLUMNS,
        *(
            (f"geolocation_{name}", f"fact.relationship.geolocation.{name}")
            for name in _PLACE_FIELDS
        ),
        *(
            (f"device_{name}", f"fact.relationship.device_information.{name}")
            for name in _DEVICE_FIELDS
        ),
        ("query_parameters", "toJSONString(fact.relationship.query_parameters)"),
    ),
)
_TYPES: Final = {
    "conversion_unix_timestamp": "UInt32",
    "revenue": "Decimal(18, 6)",
    "sale_amount": "Decimal(18, 6)",
}
_HELD_TYPES: Final = ", ".join(f"{name} {_TYPES.get(name, 'String')}" for name in HELD_FIELDS)
_HELD_CONVERSION: Final = (
    f"CAST(tuple({', '.join(text for _, text in _plain(HELD_FIELDS))}, fact.relationship),"
    f" 'Tuple({_HELD_TYPES}, relationship Tuple({tables.OFFER}, events_count UInt32))')"
)
HELD: Final = Shape(
    table=tables.CONVERSIONS,
    key="conversion_id",
    stamp="conversion_unix_timestamp",
    json=(
        ("on_hold_conversion_id", "fact.hold.on_hold_conversion_id"),
        ("network_id", "fact.network_id"),
        ("holding_period_end", "fact.hold.holding_period_end"),
        ("status", "fact.hold.status"),
        ("conversion", _HELD_CONVERSION),
    ),
    csv=(),
)
"""A time on hold, with the conversion within."""
