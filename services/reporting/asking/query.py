"""The `query` of a request: which facts it wants; pure."""

from dataclasses import dataclass
from typing import Any, Final

from services.reporting.asking.members import Body, list_of, object_of
from services.reporting.facts.columns import EMPTY, column_of
from shared.errors import InvalidError

FILTERS_MAX: Final = 1_000
TEXT_MAX: Final = 4_096
STATUSES: Final = ("approved", "pending", "rejected", "invalid", "on_hold")


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows whose `resource` has one of `values`, or for exclusions none of them."""

    resource: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """Which facts are wanted.

    Attributes:
        filters: all must hold.
        exclusions: none may hold.
        redirect_traffic: only it, none of it, or either (None).
    """

    filters: tuple[Filter, ...] = ()
    exclusions: tuple[Filter, ...] = ()
    redirect_traffic: bool | None = None


def read_query(body: Body) -> Query:
    """The query of a body; all facts if it has none.

    Raises:
        InvalidError: something in it is wrong or not supported; the message names it.
    """
    query = object_of(body, "query")
    if list_of(query, "search_terms"):
        raise InvalidError("query.search_terms: not supported; use query.filters")
    settings = object_of(query, "settings")
    if settings.get("campaign_data_only") is True:
        raise InvalidError("query.settings.campaign_data_only: there are no campaigns here")
    return Query(
        filters=_filters(query, "filters"),
        exclusions=_filters(query, "exclusions"),
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
    for item in list_of(query, name):
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
