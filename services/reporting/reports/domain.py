"""What an aggregated report asks for, read out of whatever deployed programs send; pure.

Repeated columns are repeated in the answer. What cannot be honoured is refused by name rather than
answered wrongly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final

from services.reporting.asking.interval import Interval, read_interval
from services.reporting.asking.members import Body, list_of, object_of, required, whole
from services.reporting.asking.query import Filter, Query, read_query
from services.reporting.facts.columns import COLUMNS, Column, column_of
from services.reporting.reports.measures import METRICS, PLACES
from services.reporting.timezones import Timezone, timezone_of
from shared.errors import InvalidError, NotFoundError

COLUMNS_MAX: Final = 10
FORMATS: Final = ("csv", "json")
SUBS: Final = ("1", "2", "3", "4", "5")
METRIC_VALUE_MAX: Final = Decimal(10) ** 20
OPERATORS: Final[Mapping[str, str]] = {"greater_than": ">", "less_than": "<", "equal": "="}
SUPPORTED_COLUMNS: Final = ", ".join(COLUMNS)


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """Rows whose `metric`, as they show it, compares so with `value`; `operator` is SQL's."""

    metric: str
    operator: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    """An aggregated report.

    Attributes:
        interval: of the facts.
        currency_id: in which amounts are shown.
        names: the columns as requested.
        columns: what they mean.
        query: which facts.
        metric_filters: which rows; all must hold.
    """

    interval: Interval
    currency_id: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    query: Query
    metric_filters: tuple[MetricFilter, ...]


def read_report(body: Body) -> Report:
    """The aggregated report that `body` asks for.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    interval = read_interval(body)
    names = _column_names(body.get("columns"))
    return Report(
        interval=interval,
        currency_id=_currency(required(body, "currency_id")),
        names=names,
        columns=_columns(names),
        query=read_query(body),
        metric_filters=_metric_filters(body),
    )


def read_report_by(body: Body, name: str, own_currency: str) -> Report:
    """The report by one column that an endpoint stands for, whatever `columns` say.

    Args:
        body: of the request; `currency_id` may be missing.
        name: of the column.
        own_currency: used then.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    return Report(
        interval=read_interval(body),
        currency_id=_currency(body.get("currency_id") or own_currency),
        names=(name,),
        columns=_columns((name,)),
        query=read_query(body),
        metric_filters=_metric_filters(body),
    )


def read_daily(body: Body, own_currency: str) -> Report:
    """The report by day, of which no day can be left out.

    Raises:
        InvalidError: something is missing, wrong or not supported; the message names it.
    """
    report = read_report_by(body, "date", own_currency)
    if report.metric_filters:
        raise InvalidError("query.metric_filters: not of this report; use /reporting/entity/table")
    return report


def read_totals(body: Body, interval: Interval, own_currency: str) -> Report:
    """All facts of an interval, as one sum; `currency_id` of the body may be missing.

    Raises:
        InvalidError: the currency is none.
    """
    currency_id = _currency(body.get("currency_id") or own_currency)
    return Report(interval, currency_id, (), (), Query(), ())


def read_zone(body: Body) -> Timezone:
    """The time zone of a dashboard.

    Raises:
        InvalidError: it is missing or none.
    """
    return timezone_of(whole(required(body, "timezone_id"), "timezone_id"))


def read_chart(body: Body, own_currency: str, *, now: float) -> Report:
    """What `/dashboard/performance` asks for: the last seven days, unless the body says otherwise.

    Raises:
        InvalidError: something is wrong; the message names it.
    """
    zone = read_zone(body)
    if body.get("from") or body.get("to"):
        return read_totals(body, read_interval(body), own_currency)
    today = zone.date(now)
    week = {"from": (today - timedelta(days=6)).isoformat(), "to": today.isoformat()}
    return read_totals(body, read_interval({**body, **week}), own_currency)


def read_offers(
    body: Body, interval: Interval, own_currency: str, offer_id: str | None = None
) -> Report:
    """All offers in an interval, or one.

    Raises:
        InvalidError: the currency is none.
        NotFoundError: `offer_id` is no number.
    """
    if offer_id is not None and not (offer_id.isascii() and offer_id.isdigit()):
        raise NotFoundError
    wanted = () if offer_id is None else (Filter("offer", (offer_id,)),)
    totals = read_totals(body, interval, own_currency)
    return replace(totals, names=("offer",), columns=_columns(("offer",)), query=Query(wanted))


def read_format(body: Body, default: str) -> str:
    """The `format` of a file, `csv` or `json`.

    Raises:
        InvalidError: it is neither.
    """
    text = str(body.get("format") or default).lower()
    if text not in FORMATS:
        raise InvalidError(f"format: {text!r} is none of {', '.join(FORMATS)}")
    return text


def sub_column(number: str) -> str:
    """The column that `/reporting/sub/{number}` groups by.

    Raises:
        NotFoundError: there is no such sub.
    """
    if number not in SUBS:
        raise NotFoundError
    return f"sub{number}"


def without_filters(body: Body) -> Body:
    """The body without what `/reporting/offer` ignores."""
    query = {name: value for name, value in object_of(body, "query").items() if name != "filters"}
    return {**body, "query": query}


def asks_for_page(body: Body, parameters: Mapping[str, str]) -> bool:
    """Whether body or query string say which page is wanted."""
    names = ("page", "page_size", "paging", "pagination", "limit")
    return any(body.get(name) or parameters.get(name) for name in names)


def _columns(names: Sequence[str]) -> tuple[Column, ...]:
    columns = tuple(_column(name) for name in names)
    if len({column.time for column in columns if column.time}) > 1:
        raise InvalidError("columns: at most one time column (hour, date, week, month, year)")
    return columns


def _metric_filters(body: Body) -> tuple[MetricFilter, ...]:
    wanted = list_of(object_of(body, "query"), "metric_filters")
    return tuple(_metric_filter(item) for item in wanted)


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


def _metric_filter(item: Any) -> MetricFilter:
    if not isinstance(item, dict) or item.get("metric_type") not in METRICS:
        raise InvalidError(f"query.metric_filters: metric_type must be one of {', '.join(METRICS)}")
    operator = OPERATORS.get(str(item.get("operator")))
    if operator is None:
        raise InvalidError(f"query.metric_filters: operator must be one of {', '.join(OPERATORS)}")
    return MetricFilter(str(item["metric_type"]), operator, _metric_value(item))


def _metric_value(item: Body) -> Decimal:
    """The value to compare with, as exact as it was sent."""
    value = item.get("metric_value")
    try:
        if isinstance(value, bool):
            raise InvalidOperation  # noqa: TRY301 - one message for all
        exact = Decimal(str(value))
        if exact.copy_abs() >= METRIC_VALUE_MAX:  # of NaN, too, raises
            raise InvalidOperation  # noqa: TRY301
        return exact.quantize(Decimal(1).scaleb(-PLACES), ROUND_HALF_EVEN, Context(prec=38))
    except InvalidOperation as error:
        raise InvalidError(
            f"query.metric_filters: metric_value must be a number under {METRIC_VALUE_MAX}"
        ) from error


def _currency(text: Any) -> str:
    is_code = isinstance(text, str) and len(text) == len("USD") and text.isascii()
    if not is_code or not text.isalpha():
        raise InvalidError('currency_id: an ISO 4217 code such as "USD"')
    return str(text).upper()
