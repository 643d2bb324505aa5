"""Protects what deployed programs may send in a query string, and which refusals help."""

import pytest

from services.reporting.catalog.search import Condition, OfferSearch, read, related
from services.reporting.paging import Page
from shared.errors import InvalidError

TOLERATED = [
    ([], OfferSearch(Page())),
    ([("page", ""), ("page_size", "")], OfferSearch(Page())),
    ([("page", "2"), ("page_size", "500")], OfferSearch(Page(2, 500))),
    ([("page", "0"), ("page_size", "0")], OfferSearch(Page(1, 50))),
    ([("page", "-3"), ("page_size", "-1")], OfferSearch(Page(1, 2_000))),
    ([("page_size", "100000")], OfferSearch(Page(1, 2_000))),
    ([("page", "1"), ("page", "3")], OfferSearch(Page(3, 50))),
    (
        [("relationship", "all"), ("autoRun", "1"), ("filter", ""), ("search", " ")],
        OfferSearch(Page()),
    ),
    ([("search", " shoes ")], OfferSearch(Page(), (), "shoes")),
    (
        [("filter", "time_saved>1767225600"), ("filter", " visibility = public ")],
        OfferSearch(
            Page(),
            (Condition("time_saved", ">", 1_767_225_600), Condition("visibility", "=", "public")),
        ),
    ),
    ([("filter", "name=a<b=c")], OfferSearch(Page(), (Condition("name", "=", "a<b=c"),))),
    ([("filter", "name=")], OfferSearch(Page(), (Condition("name", "=", ""),))),
    (
        [("filter", f"network_offer_id<{10**30}")],
        OfferSearch(Page(), (Condition("network_offer_id", "<", 2**63 - 1),)),
    ),
]
REFUSED = [
    ([("page", "two")], "page: must be a whole number"),
    ([("page_size", "1.5")], "page_size: must be a whole number"),
    ([("filter", "payout>1")], "'payout' is no field of it; allowed are network_offer_id, network"),
    ([("filter", "offer_status")], "is not <field><operator><value>"),
    ([("filter", "name>a")], "name is compared by = alone"),
    ([("filter", "time_saved>=1")], "filter time_saved: must be a whole number"),
    ([("filter", "time_saved>yesterday")], "filter time_saved: must be a whole number"),
    ([("filter", "name=a\0")], "none of them NUL"),
    ([("filter", "name=x" + " " * 8_000 + "y")], "at most 600 characters"),
    ([("search", "\0")], "none of them NUL"),
    ([("search", "x" * 601)], "at most 600 characters"),
    ([("filter", "name=a")] * 21, "at most 20"),
]


@pytest.mark.parametrize(("parameters", "expected"), TOLERATED)
def test_what_programs_send_is_understood(parameters, expected) -> None:
    """Empty is absent, numbers are clamped, what no list knows is left alone."""
    assert read(parameters) == expected


@pytest.mark.parametrize(("parameters", "text"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(parameters, text) -> None:
    """A filter that is left out silently would answer too much."""
    with pytest.raises(InvalidError) as refusal:
        read(parameters)
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], set()),
        ([""], set()),
        (["reporting"], {"reporting"}),
        (["reporting", "manager"], {"reporting", "manager"}),
        (["manager, Reporting,users"], {"reporting", "manager"}),
        (["all"], {"reporting", "manager"}),
        (["users"], set()),
    ],
)
def test_relationships_come_in_any_form(values, expected) -> None:
    """Repeated, as a list, all of them, or empty as if absent; unknown ones are left alone."""
    parameters = [("page", "1"), *(("relationship", value) for value in values)]
    assert related(parameters, ("reporting", "manager")) == expected
