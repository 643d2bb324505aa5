"""Which raw rows a partner asks for, read out of whatever deployed programs send; pure."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.reporting.asking.interval import STAMP_MAX, Interval, read_interval
from services.reporting.asking.members import Body, flag, is_hex_id
from services.reporting.asking.pages import read_page
from services.reporting.asking.query import Query, read_query
from services.reporting.paging import Page
from shared.errors import InvalidError

PAST_DAYS_MAX: Final = 366
"""Raw rows reach back 365 days; a day more leaves room for time zones."""
CLICK_DAYS_MAX: Final = 92
"""Raw clicks are shown for three months, and for good if they led to a conversion."""


@dataclass(frozen=True, slots=True)
class ConversionSearch:
    """A page of raw conversions; `after` is the last row of the page before, by time and id."""

    interval: Interval
    query: Query
    with_conversions: bool
    with_events: bool
    page: Page
    after: tuple[int, str] | None


def read_conversion_search(
    body: Body, parameters: Mapping[str, str], *, now: float
) -> ConversionSearch:
    """The page of conversions that `body` and query string ask for.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    interval = read_interval(body)
    if interval.since < now - PAST_DAYS_MAX * 86_400:
        raise InvalidError("from: raw conversions reach back 365 days")
    cursor = parameters.get("cursor")
    return ConversionSearch(
        interval=interval,
        query=read_query(body),
        with_conversions=flag(body, "show_conversions", default=True),
        with_events=flag(body, "show_events", default=False),
        page=read_page(body, parameters),
        after=read_cursor(cursor) if cursor else None,
    )


def write_cursor(stamp: int, row_id: str) -> str:
    """A cursor behind the row with this time and id."""
    return base64.urlsafe_b64encode(f"1.{stamp}.{row_id}".encode()).rstrip(b"=").decode()


def read_cursor(text: str) -> tuple[int, str]:
    """Time and id of the row that a cursor stands behind.

    Raises:
        InvalidError: it is not one of ours.
    """
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        version, stamp, row_id = base64.urlsafe_b64decode(padded).decode().split(".")
        number = int(stamp)
    except (ValueError, binascii.Error) as error:
        raise InvalidError("cursor: not one that this endpoint gave out") from error
    if version != "1" or not 0 <= number <= STAMP_MAX or not is_hex_id(row_id):
        raise InvalidError("cursor: not one that this endpoint gave out")
    return number, row_id
