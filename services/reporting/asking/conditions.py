"""The conditions of a query over facts, as SQL over the columns of a scoped view."""

from collections.abc import Iterator

from services.reporting.asking.bound import Bound
from services.reporting.asking.members import is_hex_id
from services.reporting.asking.query import Filter, Query
from services.reporting.facts import tallies
from services.reporting.facts.columns import COLUMNS, EMPTY


def statuses(query: Query) -> frozenset[str]:
    """The statuses of the conversions that count: approved, unless the filters name others."""
    wanted = [each.values for each in query.filters if each.resource == "status"]
    refused = [each.values for each in query.exclusions if each.resource == "status"]
    kept = set(wanted[0]) if wanted else {"approved"}
    return frozenset(kept.difference(*refused[:1]).intersection(tallies.STATUSES))


def conditions(query: Query, bound: Bound) -> Iterator[str]:
    """The filters that say which rows; a status is judged where conversions are counted.

    Args:
        query: what is wanted.
        bound: takes the values.
    """
    for filters, operator in ((query.filters, "IN"), (query.exclusions, "NOT IN")):
        for each in filters:
            if each.resource != "status":
                yield _condition(each, operator, bound)
    if query.redirect_traffic is not None:
        yield "is_redirect_traffic" if query.redirect_traffic else "NOT is_redirect_traffic"


def _condition(each: Filter, operator: str, bound: Bound) -> str:
    column = COLUMNS.get(each.resource)
    if column is None:
        return f"transaction_id {operator} {bound.text(list(_ids(each)), 'Array(String)')}"
    if column.is_number:
        return f"{column.id} {operator} {bound.text(list(_numbers(each)), 'Array(UInt64)')}"
    return f"{column.id} {operator} {bound.text(list(_texts(each)), 'Array(String)')}"


def _ids(each: Filter) -> Iterator[str]:
    """What is no id of ours names nothing; programs write them in either case."""
    for value in each.values:
        if is_hex_id(value.lower()):
            yield value.lower()


def _texts(each: Filter) -> Iterator[str]:
    """No value is stored as such, or as a sender wrote it."""
    for value in each.values:
        yield value
        if not value:
            yield EMPTY


def _numbers(each: Filter) -> Iterator[int]:
    """What is no number of ours names nothing; none is 0."""
    for value in each.values:
        if not value:
            yield 0
        elif (
            value.isascii() and value.isdigit() and int(value) < 2**64 and value == str(int(value))
        ):
            yield int(value)
