"""What an aggregated report asks for, read out of whatever deployed programs send; pure.

Repeated columns are repeated in the answer. What cannot be honoured is refused by name rather than
answered wrongly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from services.reporting.asking.interval import Interval, read_interval
from services.reporting.asking.members import Body, list_of, object_of, required
from services.reporting.asking.query import Query, read_query
from services.reporting.facts.columns import COLUMNS, Column, column_of
from services.reporting.reports.measures import METRICS
from shared.errors import InvalidError

COLUMNS_MAX: Final = 10
OPERATORS: Final[Mapping[str, str]] = {"greater_than": ">", "less_than": "<", "equal": "="}
SUPPORTED_COLUMNS: Final = ", ".join(COLUMNS)


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """Report rows whose `metric` compares so with `value`; `operator` is SQL's."""

    metric: str
    operator: str
    value: float


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
    columns = tuple(_column(name) for name in names)
    if len({column.time for column in columns if column.time}) > 1:
        raise InvalidError("columns: at most one time column (hour, date, week, month, year)")
    wanted = list_of(object_of(body, "query"), "metric_filters")
    return Report(
        interval=interval,
        currency_id=_currency(body),
        names=names,
        columns=columns,
        query=read_query(body),
        metric_filters=tuple(_metric_filter(item) for item in wanted),
    )


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
    try:
        value = float(Decimal(str(item.get("metric_value"))))
    except InvalidOperation as error:
        raise InvalidError("query.metric_filters: metric_value must be a number") from error
    return MetricFilter(str(item["metric_type"]), operator, value)


def _currency(body: Body) -> str:
    text = required(body, "currency_id")
    if not isinstance(text, str) or len(text) != len("USD") or not text.isalpha():
        raise InvalidError('currency_id: an ISO 4217 code such as "USD"')
    return text.upper()
