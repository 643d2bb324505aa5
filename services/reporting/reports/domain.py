"""What a partner asked for, read out of whatever deployed programs send; pure.

The rules are those of the public API and its programs: numbers as strings, dates with and without a
time, repeated columns, a missing query, unknown members. What cannot be honoured is refused by name
rather than answered wrongly.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from services.reporting.paging import Page
from services.reporting.reports.columns import COLUMNS, EMPTY, Column, column_of
from services.reporting.reports.measures import METRICS
from services.reporting.timezones import Timezone, timezone_of
from shared.errors import InvalidError

COLUMNS_MAX: Final = 10
FILTERS_MAX: Final = 1_000
TEXT_MAX: Final = 4_096
REPORT_DAYS_MAX: Final = 367
PAST_DAYS_MAX: Final = 366
"""Raw rows reach back 365 days; a day more leaves room for time zones."""
STATUSES: Final = ("approved", "pending", "rejected", "invalid", "on_hold")
OPERATORS: Final[Mapping[str, str]] = {"greater_than": ">", "less_than": "<", "equal": "="}
SUPPORTED_COLUMNS: Final = ", ".join(COLUMNS)
_DAY: Final = timedelta(days=1)
_STAMP_MAX: Final = 2**32 - 1
_ID_LENGTH: Final = 32
_HEX: Final = frozenset("0123456789abcdef")

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds since the epoch, UTC, both ends included, and the zone they were given in."""

    since: int
    until: int
    zone: Timezone


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows whose `resource` has one of `values`, or for exclusions none of them."""

    resource: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """Report rows whose `metric` compares so with `value`; `operator` is SQL's."""

    metric: str
    operator: str
    value: float


@dataclass(frozen=True, slots=True)
class Query:
    """The `query` of a body.

    Attributes:
        filters: all must hold.
        exclusions: none may hold.
        metric_filters: all must hold, of aggregated rows.
        redirect_traffic: only it, none of it, or either (None).
    """

    filters: tuple[Filter, ...] = ()
    exclusions: tuple[Filter, ...] = ()
    metric_filters: tuple[MetricFilter, ...] = ()
    redirect_traffic: bool | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """An aggregated report; `names` are the columns as requested, `columns` what they mean."""

    interval: Interval
    currency_id: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    query: Query


@dataclass(frozen=True, slots=True)
class ConversionSearch:
    """A page of raw conversions; `after` is the last row of the page before, by time and id."""

    interval: Interval
    query: Query
    with_conversions: bool
    with_events: bool
    page: Page
    after: tuple[int, str] | None


def read_body(raw: bytes) -> Body:
    """The JSON object of a request.

    Raises:
        InvalidError: it is none.
    """
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError(f"Invalid parameters. The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidError("Invalid parameters. The body must be a JSON object.")
    return body


def read_report(body: Body) -> Report:
    """The aggregated report that `body` asks for.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    interval = _interval(body)
    if interval.until - interval.since > REPORT_DAYS_MAX * 86_400:
        raise InvalidError("from, to: at most one year apart")
    names = _column_names(body.get("columns"))
    columns = tuple(_column(name) for name in names)
    if len({column.time for column in columns if column.time}) > 1:
        raise InvalidError("columns: at most one time column (hour, date, week, month, year)")
    return Report(interval, _currency(body), names, columns, _query(body))


def read_conversion_search(
    body: Body, parameters: Mapping[str, str], *, now: float
) -> ConversionSearch:
    """The page of conversions that `body` and query string ask for.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    interval = _interval(body)
    if interval.until - interval.since > REPORT_DAYS_MAX * 86_400:
        raise InvalidError("from, to: at most one year apart")
    if interval.since < now - PAST_DAYS_MAX * 86_400:
        raise InvalidError("from: raw conversions reach back 365 days")
    cursor = parameters.get("cursor")
    return ConversionSearch(
        interval=interval,
        query=_query(body),
        with_conversions=_flag(body, "show_conversions", default=True),
        with_events=_flag(body, "show_events", default=False),
        page=read_page(body, parameters),
        after=read_cursor(cursor) if cursor else None,
    )


# --- paging ---------------------------------------------------------------------------------------


def read_page(body: Body, parameters: Mapping[str, str]) -> Page:
    """The page by the query string, else the body, `paging`, `pagination`, `limit`, in this order.

    Raises:
        InvalidError: a page or size is no number.
    """
    sources = (parameters, body, _object(body, "paging"), _object(body, "pagination"))
    numbers = [source["page"] for source in sources if source.get("page") not in (None, "")]
    sizes = [source["page_size"] for source in sources if source.get("page_size") not in (None, "")]
    if body.get("limit") not in (None, ""):
        sizes.append(body["limit"])
    return Page.asked(
        _whole(numbers[0], "page") if numbers else None,
        _whole(sizes[0], "page_size") if sizes else None,
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
    if version != "1" or not 0 <= number <= _STAMP_MAX or not is_hex_id(row_id):
        raise InvalidError("cursor: not one that this endpoint gave out")
    return number, row_id


def is_hex_id(text: str) -> bool:
    """Whether `text` looks like the id of a click or a conversion."""
    return len(text) == _ID_LENGTH and _HEX.issuperset(text)


# --- time -----------------------------------------------------------------------------------------


def _interval(body: Body) -> Interval:
    zone = timezone_of(_whole(_required(body, "timezone_id"), "timezone_id"))
    since = _moment(_required(body, "from"), "from", zone, is_end=False)
    until = _moment(_required(body, "to"), "to", zone, is_end=True)
    if since > until:
        raise InvalidError("from, to: the interval ends before it begins")
    return Interval(since, until, zone)


def _moment(text: Any, name: str, zone: Timezone, *, is_end: bool) -> int:
    """Wall-clock time of `zone` as seconds UTC; a bare end date is that day's last second.

    Where a clock is put back an hour happens twice: a start means the first, an end the second.
    """
    try:
        if len(text) == len("2026-01-01"):
            day = date.fromisoformat(text) + (_DAY if is_end else timedelta())
            local = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - the zone follows
        else:
            local = datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - likewise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidError(f"{name}: use YYYY-MM-DD or YYYY-MM-DD HH:MM:SS") from error
    is_bare_end = is_end and len(text) == len("2026-01-01")
    fold = 1 if is_end and not is_bare_end else 0
    seconds = int(local.replace(tzinfo=zone.info, fold=fold).timestamp())
    return min(max(seconds - (1 if is_bare_end else 0), 0), _STAMP_MAX)


# --- columns and filters --------------------------------------------------------------------------


def _column_names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidError('columns: give 1 to 10, as [{"column": "offer"}]')
    names = tuple(str(item.get("column") if isinstance(item, dict) else item) for item in value)
    if len(set(names)) > COLUMNS_MAX or len(names) > 2 * COLUMNS_MAX:
        raise InvalidError(f"columns: at most {COLUMNS_MAX}")
    return names


def _column(name: str) -> Column:
    column = column_of(name)
    if column is None:
        raise InvalidError(f"columns: {name!r} is no column; use {SUPPORTED_COLUMNS}")
    return column


def _query(body: Body) -> Query:
    query = _object(body, "query")
    if _list(query, "search_terms"):
        raise InvalidError("query.search_terms: not supported; use query.filters")
    settings = _object(query, "settings")
    if settings.get("campaign_data_only") is True:
        raise InvalidError("query.settings.campaign_data_only: there are no campaigns here")
    return Query(
        filters=_filters(query, "filters"),
        exclusions=_filters(query, "exclusions"),
        metric_filters=tuple(_metric_filter(item) for item in _list(query, "metric_filters")),
        redirect_traffic=_redirect_traffic(settings),
    )


def _redirect_traffic(settings: Body) -> bool | None:
    only = settings.get("only_include_fail_traffic") is True
    if only and settings.get("ignore_fail_traffic") is True:
        raise InvalidError("query.settings: fail traffic cannot be both ignored and the only one")
    if only:
        return True
    return False if settings.get("ignore_fail_traffic") is True else None


def _filters(query: Body, name: str) -> tuple[Filter, ...]:
    """Pairs of the same resource together: a filter takes any of its values."""
    found: dict[str, list[str]] = {}
    for item in _list(query, name):
        if not isinstance(item, dict):
            raise InvalidError(f"query.{name}: objects with resource_type and filter_id_value")
        resource = item.get("resource_type")
        _refuse_resource(resource, name)
        found.setdefault(str(resource), []).append(_filter_value(item, name))
    if sum(map(len, found.values())) > FILTERS_MAX:
        raise InvalidError(f"query.{name}: at most {FILTERS_MAX}")
    return tuple(Filter(resource, tuple(values)) for resource, values in found.items())


def _refuse_resource(resource: Any, name: str) -> None:
    column = column_of(resource) if isinstance(resource, str) else None
    if resource in ("status", "transaction_id") or (column is not None and not column.time):
        return
    raise InvalidError(
        f"query.{name}: resource_type {resource!r} is not supported; use status, transaction_id "
        "or a column that is not a time"
    )


def _filter_value(item: Body, name: str) -> str:
    value = item.get("filter_id_value")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidError(f"query.{name}: filter_id_value must be a string or a whole number")
    text = str(value)
    if len(text) > TEXT_MAX:
        raise InvalidError(f"query.{name}: filter_id_value: at most {TEXT_MAX} characters")
    if item.get("resource_type") == "status" and text not in STATUSES:
        raise InvalidError(f"query.{name}: status {text!r} is none of {', '.join(STATUSES)}")
    return "" if text == EMPTY else text


def _metric_filter(item: Any) -> MetricFilter:
    if not isinstance(item, dict) or item.get("metric_type") not in METRICS:
        raise InvalidError(f"query.metric_filters: metric_type must be one of {', '.join(METRICS)}")
    operator = OPERATORS.get(str(item.get("operator")))
    if operator is None:
        raise InvalidError(f"query.metric_filters: operator must be one of {', '.join(OPERATORS)}")
    try:
        value = float(Decimal(str(item.get("metric_value"))))
    except InvalidOperation as error:
        raise InvalidError("query.metric_filters: metric_value must be a number") from error
    return MetricFilter(str(item["metric_type"]), operator, value)


# --- members --------------------------------------------------------------------------------------


def _currency(body: Body) -> str:
    text = _required(body, "currency_id")
    if not isinstance(text, str) or len(text) != len("USD") or not text.isalpha():
        raise InvalidError('currency_id: an ISO 4217 code such as "USD"')
    return text.upper()


def _required(body: Body, name: str) -> Any:
    value = body.get(name)
    if value in (None, ""):
        raise InvalidError(f"Invalid parameters. {name}: required")
    return value


def _whole(value: Any, name: str) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(name)  # noqa: TRY301 - one message for all
        if int(value) != float(value):
            raise ValueError(name)  # noqa: TRY301
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidError(f"Invalid parameters. {name}: must be a whole number") from error


def _flag(body: Body, name: str, *, default: bool) -> bool:
    value = body.get(name)
    return value if isinstance(value, bool) else default


def _object(body: Body, name: str) -> Body:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _list(body: Body, name: str) -> Sequence[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else ()
