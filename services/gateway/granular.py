"""Which reports are granular: those that group or filter by one of many fine dimensions. Pure.

They are the expensive ones, so that a network's partners share an hourly budget for them beside the
budget of all requests. Offer and time are not among those dimensions.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

REPORT_BYTES_MAX: Final = 64 * 1024
"""Longest body that is read to classify a report."""

GRANULAR: Final = frozenset(
    (
        *(f"{tag}{number}" for tag in ("sub", "adv") for number in range(1, 6)),
        *("country", "country_code", "region", "city", "dma", "postal_code"),
        *("carrier", "isp", "connection_type", "is_proxy"),
        *("platform", "os_version", "device_type", "device_make", "device_model"),
        *("make", "model", "brand", "browser", "language"),
        *("offer_group", "offer_url", "event_name", "advertiser_event_name"),
        *("payout_type", "payout_amount", "revenue_type", "revenue_amount", "custom_payout"),
        *("source_id", "project_id", "referer", "referrer", "coupon_code", "tracking_domain"),
        *("order_id", "attribution_method", "account_referred_by"),
    )
)


def is_granular(content: bytes) -> bool:
    """Whether the report that a body asks for draws on the hourly budget.

    A body that is no report at all does not: its service says what is wrong with it.
    """
    try:
        report = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return any(name in GRANULAR for name in _dimensions(report))


def _dimensions(report: Any) -> Iterator[str]:
    """The names that a report groups and filters by."""
    yield from _named(_member(report, "columns"), "column")
    query = _member(report, "query")
    yield from _named(_member(query, "filters"), "resource_type")
    yield from _named(_member(query, "exclusions"), "resource_type")


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _named(items: Any, name: str) -> Iterator[str]:
    """The items themselves where they are bare names, which reports take too."""
    for item in items if isinstance(items, list) else ():
        found = _member(item, name) if isinstance(item, dict) else item
        if isinstance(found, str):
            yield found
