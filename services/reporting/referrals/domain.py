"""What a request for referrals asks, and what a partner sees of one; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from services.reporting.asking.interval import Interval, read_interval
from services.reporting.asking.members import Body, list_of, object_of
from services.reporting.asking.pages import read_page
from services.reporting.paging import Page
from shared.errors import InvalidError
from shared.events import Referral

SHOWN: Final = (
    "referral_history_id",
    "network_id",
    "referred_network_affiliate_id",
    "referred_affiliate_name",
    "status",
    "commission_type",
    "commission_percentage",
    "amount",
    "currency_id",
    "unix_timestamp",
    "time_created",
    "time_saved",
)
"""The members of a referral that its referrer sees."""
_NOT_HONOURED: Final = ("filters", "exclusions", "metric_filters")


@dataclass(frozen=True, slots=True)
class Asked:
    """A page of the referrals of an interval."""

    interval: Interval
    page: Page


@dataclass(frozen=True, slots=True)
class Total:
    """All amounts of one currency and status."""

    currency_id: str
    status: str
    count: int
    amount: Decimal


def read(body: Body, parameters: Mapping[str, str]) -> Asked:
    """What the body and the query string ask for; `currency_id` and other members are tolerated.

    Raises:
        InvalidError: something is missing or wrong, or a filter is given, which this report would
            have to ignore.
    """
    query = object_of(body, "query")
    for name in _NOT_HONOURED:
        if list_of(query, name):
            raise InvalidError(f"Invalid parameters. query.{name}: referrals take none; leave out")
    return Asked(read_interval(body), read_page(body, parameters))


def shown_referral(referral: Referral) -> dict[str, Any]:
    """A referral as the referrer sees it."""
    exact = {
        name: number(Decimal(str(getattr(referral, name))))
        for name in ("amount", "commission_percentage")
    }
    return {name: getattr(referral, name) for name in SHOWN} | exact


def shown_total(total: Total) -> dict[str, Any]:
    """A total as the answer has it."""
    return {
        "currency_id": total.currency_id,
        "status": total.status,
        "count": total.count,
        "amount": number(total.amount),
    }


def number(value: Decimal) -> msgspec.Raw:
    """`value` as a JSON number: all its digits, no trailing zeros, no exponent."""
    text = f"{value:f}"
    return msgspec.Raw((text.rstrip("0").rstrip(".") if "." in text else text).encode())
