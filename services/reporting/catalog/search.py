"""What a partner asks of a list of offers, read out of the query string; pure.

Parameters that no list knows are tolerated, since deployed programs send them. A filter that cannot
be honoured is refused by name: left out silently, its answer would be wrong.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from services.reporting.asking.members import whole
from services.reporting.asking.pages import read_page
from services.reporting.paging import Page
from shared.errors import InvalidError

NUMBERS: Final = ("network_offer_id", "network_category_id", "time_created", "time_saved")
"""Fields that a filter compares as numbers."""
WORDS: Final = ("name", "offer_status", "visibility", "currency_id")
"""Fields that a filter compares for equality."""
CONDITIONS_MAX: Final = 20
TEXT_MAX: Final = 600
_NUMBER_MAX: Final = 2**63 - 1
_FILTER: Final = re.compile(r"(\w+)\s*([=<>])(.*)", re.DOTALL)
"""Over a text without spaces around it; takes time by its length, whatever it is."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Offers whose `field` compares so with `value`; `operator` is SQL's."""

    field: str
    operator: str
    value: int | str


@dataclass(frozen=True, slots=True)
class OfferSearch:
    """A page of a list of offers.

    Attributes:
        page: which one.
        conditions: all must hold.
        text: part of the name, or the id; empty for any.
    """

    page: Page
    conditions: tuple[Condition, ...] = ()
    text: str = ""


def read(parameters: Sequence[tuple[str, str]]) -> OfferSearch:
    """What the parameters of a query string, in order, ask for.

    Raises:
        InvalidError: a number is none, or a filter cannot be honoured; the message names it.
    """
    filters = [value for name, value in parameters if name == "filter" and value.strip()]
    if len(filters) > CONDITIONS_MAX:
        raise InvalidError(f"filter: at most {CONDITIONS_MAX} of them")
    single = dict(parameters)
    text = single.get("search", "").strip()
    return OfferSearch(
        page=read_page({}, single),
        conditions=tuple(map(_condition, filters)),
        text=_storable(text, "search"),
    )


def related(parameters: Sequence[tuple[str, str]], known: Collection[str]) -> frozenset[str]:
    """Which of the `known` relationships are asked for: repeated, as a list, `all`, or none."""
    asked = {
        word.strip().lower()
        for name, value in parameters
        if name == "relationship"
        for word in value.split(",")
    }
    return frozenset(known if "all" in asked else asked.intersection(known))


def _condition(text: str) -> Condition:
    found = _FILTER.fullmatch(text.strip())
    if found is None:
        raise InvalidError(f"filter: {text[:TEXT_MAX]!r} is not <field><operator><value>")
    field, operator, value = (part.strip() for part in found.groups())
    if field in NUMBERS:
        return Condition(field, operator, _number(field, value))
    if field not in WORDS:
        allowed = ", ".join((*NUMBERS, *WORDS))
        raise InvalidError(f"filter: {field[:TEXT_MAX]!r} is no field of it; allowed are {allowed}")
    if operator != "=":
        raise InvalidError(f"filter: {field} is compared by = alone")
    return Condition(field, operator, _storable(value, f"filter {field}"))


def _number(field: str, text: str) -> int:
    number = whole(text, f"filter {field}")
    return max(-_NUMBER_MAX, min(number, _NUMBER_MAX))


def _storable(text: str, name: str) -> str:
    if "\0" in text or len(text) > TEXT_MAX:
        raise InvalidError(f"{name}: at most {TEXT_MAX} characters, and none of them NUL")
    return text
