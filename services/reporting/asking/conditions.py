"""The conditions of a query over facts, as SQL over the columns of a fact table."""

from collections.abc import Iterator

from services.reporting.asking.bound import Bound
from services.reporting.asking.query import Filter, Query
from services.reporting.facts.columns import COLUMNS, EMPTY


def status(query: Query, bound: Bound) -> str:
    """Which conversions count: the approved ones, unless the filters name others."""
    wanted = [each.values for each in query.filters if each.resource == "status"]
    refused = [each.values for each in query.exclusions if each.resource == "status"]
    kept = bound.text(list(wanted[0] if wanted else ("approved",)), "Array(String)")
    condition = f"status IN {kept}"
    if refused:
        condition += f" AND status NOT IN {bound.text(list(refused[0]), 'Array(String)')}"
    return condition


def conditions(query: Query, bound: Bound, *, is_traffic: bool) -> Iterator[str]:
    """The filters that say which rows; a status is judged where conversions are counted.

    Args:
        query: what is wanted.
        bound: takes the values.
        is_traffic: whether the table has clicks or impressions rather than conversions.
    """
    for filters, operator in ((query.filters, "IN"), (query.exclusions, "NOT IN")):
        for each in filters:
            if each.resource != "status":
                yield (
                    f"{_expression(each, is_traffic=is_traffic)} {operator}"
                    f" {bound.text(list(_values(each)), 'Array(String)')}"
                )
    if query.redirect_traffic is not None:
        yield "is_redirect_traffic" if query.redirect_traffic else "NOT is_redirect_traffic"


def _expression(each: Filter, *, is_traffic: bool) -> str:
    if each.resource == "transaction_id":
        return "transaction_id"
    column = COLUMNS[each.resource]
    return column.traffic if is_traffic else column.conversion


def _values(each: Filter) -> Iterator[str]:
    unset = COLUMNS[each.resource].unset if each.resource in COLUMNS else ""
    for value in each.values:
        if value:
            yield value
        else:
            yield from (unset, EMPTY)
