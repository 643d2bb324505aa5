"""The public rows: which fields a conversion and a click show, how they are read and shaped.

Fields and their order are the public API's. What is not named here, no partner sees of a fact.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.reporting.facts.numbers import number

OFFER_FIELDS: Final = (
    "network_offer_id",
    "network_id",
    "name",
    "offer_status",
    "network_tracking_domain_id",
)
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
RELATED: Final = "relationship"

Row = dict[str, Any]
"""A row as the store has it, by field."""


def selected(fields: Sequence[str]) -> str:
    """The fields and the related data for a SELECT; ids of fixed length are read as text."""
    texts = [
        f"toString({name})" if name.endswith(("transaction_id", "conversion_id")) else name
        for name in fields
    ]
    return ", ".join([*texts, RELATED])


def row_of(fields: Sequence[str], values: Sequence[Any]) -> Row:
    """The row of what `selected` has read."""
    return dict(zip((*fields, RELATED), values, strict=True))


def conversion(row: Row) -> dict[str, Any]:
    """A conversion as the wire has it."""
    shaped = {name: row[name] for name in CONVERSION_FIELDS}
    shaped["revenue"] = number(row["revenue"])
    shaped["sale_amount"] = number(row["sale_amount"])
    related = row[RELATED]
    shaped[RELATED] = {"offer": _offer(related), "events_count": related["events_count"]}
    return shaped


def click(row: Row) -> dict[str, Any]:
    """A click as the wire has it."""
    shaped = {name: row[name] for name in CLICK_FIELDS}
    shaped["revenue"] = number(row["revenue"])
    related = row[RELATED]
    shaped[RELATED] = dict(related) | {"offer": _offer(related)}
    return shaped


def _offer(related: Mapping[str, Any]) -> dict[str, Any]:
    """The offer beside a row; a record may leave out the status of an active one."""
    offer = {name: related["offer"][name] for name in OFFER_FIELDS}
    offer["offer_status"] = offer["offer_status"] or "active"
    return offer
