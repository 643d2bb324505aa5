"""Protects the rule of who may run an offer: every combination of what can be said about it."""

import itertools

import pytest

from services.reporting.catalog.domain import affiliate_status, may_run, may_see
from tests.catalog_parts import (
    APPLICATIONS,
    OFFER_STATUSES,
    OFFER_VISIBILITIES,
    TERMS_VISIBILITIES,
    offer,
    terms,
)

RUN, NOT = True, False

# What is said of the partner: visibility and application, or nothing at all.
# Then for public, require_approval and private offers: may they run it, and how do they stand.
RULES = {
    None: ((RUN, NOT, NOT), ("public", "require_approval", "require_approval")),
    ("", ""): ((RUN, NOT, NOT), ("public", "require_approval", "require_approval")),
    ("", "pending"): ((RUN, NOT, NOT), ("public", "pending", "pending")),
    ("", "approved"): ((RUN, RUN, RUN), ("public", "approved", "approved")),
    ("", "rejected"): ((NOT, NOT, NOT), ("rejected", "rejected", "rejected")),
    **{
        ("visible", application): ((RUN, RUN, RUN), ("public", "approved", "approved"))
        for application in APPLICATIONS
    },
    **{
        (visibility, application): ((NOT, NOT, NOT), ("rejected", "rejected", "rejected"))
        for visibility in ("hidden", "rejected")
        for application in APPLICATIONS
    },
}
PLACES = list(enumerate(OFFER_VISIBILITIES))


def said_of_partner(said):
    if said is None:
        return None
    return terms(70, 9, visibility=said[0], application_status=said[1])


def test_the_table_has_every_combination() -> None:
    """A value added to a schema needs a line here."""
    assert set(RULES) == {None, *itertools.product(TERMS_VISIBILITIES, APPLICATIONS)}


@pytest.mark.parametrize("said", RULES)
@pytest.mark.parametrize(("place", "visibility"), PLACES)
def test_who_may_run_an_active_offer(place, visibility, said) -> None:
    """Public offers by default; others by a grant; nobody who was hidden or rejected."""
    runs, _ = RULES[said]
    assert may_run(offer(70, visibility=visibility), said_of_partner(said)) is runs[place]


@pytest.mark.parametrize("said", RULES)
@pytest.mark.parametrize(("place", "visibility"), PLACES)
@pytest.mark.parametrize("offer_status", OFFER_STATUSES)
def test_who_sees_an_offer(place, visibility, said, offer_status) -> None:
    """Whoever may run it or apply for it, also while it is paused; private ones by a grant."""
    standing = RULES[said][1][place]
    refused = standing == "rejected"
    let_in = RULES[said][0][place] and visibility != "public"
    expected = not refused and (visibility != "private" or let_in)
    shown = may_see(
        offer(70, visibility=visibility, offer_status=offer_status), said_of_partner(said)
    )
    assert shown is (expected and offer_status in ("active", "paused"))


@pytest.mark.parametrize("said", RULES)
@pytest.mark.parametrize(("place", "visibility"), PLACES)
def test_how_a_partner_stands_with_an_offer(place, visibility, said) -> None:
    """The word that programs read from `offer_affiliate_status`."""
    _, statuses = RULES[said]
    shown = affiliate_status(offer(70, visibility=visibility), said_of_partner(said))
    assert shown == statuses[place]


@pytest.mark.parametrize("offer_status", sorted(set(OFFER_STATUSES) - {"active"}))
@pytest.mark.parametrize("visibility", OFFER_VISIBILITIES)
@pytest.mark.parametrize("said", RULES)
def test_nobody_may_run_an_offer_that_is_not_active(offer_status, visibility, said) -> None:
    """No grant outlives the offer."""
    stopped = offer(70, visibility=visibility, offer_status=offer_status)
    assert may_run(stopped, said_of_partner(said)) is False
