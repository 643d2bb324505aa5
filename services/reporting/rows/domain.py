"""Which raw rows a partner asks for, read out of whatever deployed programs send; pure."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from services.reporting.asking.interval import DAY, STAMP_MAX, Interval, read_interval
from services.reporting.asking.members import Body, flag, is_hex_id
from services.reporting.asking.pages import read_page
from services.reporting.asking.query import Query, read_query
from services.reporting.paging import PAGE_SIZE_DEFAULT, Page
from shared.errors import InvalidError

PAST_DAYS_MAX: Final = 366
"""Raw conversions reach back 365 days; a day more leaves room for time zones."""
CLICK_DAYS_MAX: Final = 92
"""Raw clicks are shown for three months, and for good if they led to a conversion."""
STREAM_DAYS_MAX: Final = 14
STREAM_ROWS_MAX: Final = 5_000
HOLD_STATUSES: Final = ("on_hold", "approved", "rejected")
ORDER_FIELD: Final = "conversion_unix_timestamp"
FORMATS: Final = ("csv", "json")
TRUNCATED: Final = "X-Truncated"
"""Header that says how many rows were left out, and where they can be had."""
EXPORTS: Final = "/v1/affiliates/reporting/exports"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conversions are wanted.

    Attributes:
        interval: when they happened.
        query: the filters.
        with_conversions: base conversions among them.
        with_events: events among them.
        view_through: only those that an impression led to, only the others, or either (None).
        with_scrubbed_only: only scrubbed ones, of which partners see none.
        hold_statuses: those with a time on hold that stands so; None for conversions themselves.
    """

    interval: Interval
    query: Query
    with_conversions: bool
    with_events: bool
    view_through: bool | None = None
    with_scrubbed_only: bool = False
    hold_statuses: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ConversionSearch:
    """A page of raw conversions, by time and id.

    Attributes:
        wanted: which conversions.
        page: of them.
        after: the last row of the page before, if it is known.
        is_newest_first: whether times and ids descend.
    """

    wanted: Wanted
    page: Page
    after: tuple[int, str] | None
    is_newest_first: bool


@dataclass(frozen=True, slots=True)
class ClickSearch:
    """Raw clicks: those before `visible_since` only if they converted."""

    interval: Interval
    query: Query
    visible_since: int


def read_conversions(body: Body, *, now: float) -> Wanted:
    """The conversions that a body asks for.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    interval = read_interval(body)
    if interval.since < now - PAST_DAYS_MAX * DAY:
        raise InvalidError("from: raw conversions reach back 365 days")
    query = read_query(body)
    if flag(body, "show_only_fail_traffic", default=False):
        query = replace(query, redirect_traffic=True)
    return Wanted(
        interval=interval,
        query=query,
        with_conversions=flag(body, "show_conversions", default=True),
        with_events=flag(body, "show_events", default=False),
        view_through=_view_through(body),
        with_scrubbed_only=flag(body, "show_only_scrub", default=False),
    )


def _view_through(body: Body) -> bool | None:
    only_views = flag(body, "show_only_vt", default=False)
    only_clicks = flag(body, "show_only_ct", default=False)
    if only_views and only_clicks:
        raise InvalidError("show_only_vt, show_only_ct: no conversion is both; send one of them")
    return only_views if only_views or only_clicks else None


def read_events(body: Body, *, now: float) -> Wanted:
    """The events that a body asks for.

    Raises:
        InvalidError: as of `read_conversions`.
    """
    return replace(read_conversions(body, now=now), with_conversions=False, with_events=True)


def read_held(body: Body, *, now: float) -> Wanted:
    """The times on hold that a body asks for; a filter by status means theirs.

    Raises:
        InvalidError: as of `read_conversions`, or there is no such status.
    """
    wanted = read_conversions(body, now=now)
    chosen = body.get("on_hold_status_filter") or ""
    if chosen and chosen not in HOLD_STATUSES:
        raise InvalidError(
            f"on_hold_status_filter: use {', '.join(HOLD_STATUSES)}, or leave it empty for all"
        )
    asked = [each.values for each in wanted.query.filters if each.resource == "status"]
    refused = [each.values for each in wanted.query.exclusions if each.resource == "status"]
    return replace(
        wanted,
        with_conversions=flag(body, "show_conversions", default=False),
        hold_statuses=tuple(
            status
            for status in HOLD_STATUSES
            if status == (chosen or status)
            and all(status in values for values in asked)
            and not any(status in values for values in refused)
        ),
    )


def read_search(
    wanted: Wanted,
    body: Body,
    parameters: Mapping[str, str],
    size: int = PAGE_SIZE_DEFAULT,
) -> ConversionSearch:
    """The page of `wanted` that body and query string ask for, of `size` unless they say.

    Raises:
        InvalidError: a page, a size, the order or the cursor is wrong.
    """
    page = read_page(body, parameters, size)
    is_newest_first = _is_descending(parameters)
    cursor = parameters.get("cursor")
    if not cursor:
        return ConversionSearch(wanted, page, None, is_newest_first or False)
    after, goes_down = read_cursor(cursor)
    if is_newest_first not in (None, goes_down):
        raise InvalidError("order_direction: the cursor goes the other way; leave it out")
    return ConversionSearch(wanted, page, after, goes_down)


def _is_descending(parameters: Mapping[str, str]) -> bool | None:
    """Whether newest first is asked for; None if nothing is."""
    field = parameters.get("order_field") or ORDER_FIELD
    direction = (parameters.get("order_direction") or "").lower()
    if field != ORDER_FIELD:
        raise InvalidError(f"order_field: rows are ordered by {ORDER_FIELD}")
    if not direction:
        return None
    if direction not in ("asc", "desc"):
        raise InvalidError("order_direction: use asc or desc")
    return direction == "desc"


def read_click_search(body: Body, *, now: float) -> ClickSearch:
    """The clicks that a body asks for, up to a year.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    return ClickSearch(read_interval(body), read_query(body), clicks_visible_since(now))


def read_clicks(body: Body, *, now: float) -> ClickSearch:
    """The clicks that a body asks for, from dates or times up to 14 days apart.

    The last of two dates is whole, so they may take in a day more, and that an hour more in autumn.

    Raises:
        InvalidError: as of `read_click_search`, or the interval is longer.
    """
    search = read_click_search(body, now=now)
    if search.interval.until - search.interval.since > (STREAM_DAYS_MAX + 1) * DAY + 3_600:
        raise InvalidError(
            f"from, to: at most {STREAM_DAYS_MAX} days apart; POST {EXPORTS} takes longer intervals"
        )
    return search


def clicks_visible_since(now: float) -> int:
    """From when on raw clicks are shown whether or not they converted (seconds)."""
    return max(0, int(now) - CLICK_DAYS_MAX * DAY)


def read_format(body: Body) -> str:
    """The format of an export, `csv` unless another is named.

    Raises:
        InvalidError: there is no such format.
    """
    chosen = body.get("format") or "csv"
    if chosen not in FORMATS:
        raise InvalidError(f"format: use {' or '.join(FORMATS)}")
    return str(chosen)


# --- cursors --------------------------------------------------------------------------------------


_UP, _DOWN = "1", "1d"


def write_cursor(stamp: int, row_id: str, *, goes_down: bool = False) -> str:
    """A cursor behind the row with this time and id, towards newer rows unless it `goes_down`."""
    text = f"{_DOWN if goes_down else _UP}.{stamp}.{row_id}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(text: str) -> tuple[tuple[int, str], bool]:
    """Time and id of the row that a cursor stands behind, and whether it goes down from there.

    Raises:
        InvalidError: it is not one of ours.
    """
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        kind, stamp, row_id = base64.urlsafe_b64decode(padded).decode().split(".")
        number = int(stamp)
    except (ValueError, binascii.Error) as error:
        raise InvalidError("cursor: not one that this endpoint gave out") from error
    if kind not in (_UP, _DOWN) or not 0 <= number <= STAMP_MAX or not is_hex_id(row_id):
        raise InvalidError("cursor: not one that this endpoint gave out")
    return (number, row_id), kind == _DOWN
