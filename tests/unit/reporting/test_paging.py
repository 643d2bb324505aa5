"""Protects the rule of page numbers, and who a query is for."""

import pytest

from services.reporting.paging import PAGE_MAX, Page
from services.reporting.scope import Scope
from shared.errors import ForbiddenError
from shared.identity import Identity


@pytest.mark.parametrize(
    ("number", "size", "expected"),
    [
        (None, None, Page(1, 50)),
        (0, 0, Page(1, 50)),
        (-3, 10, Page(1, 10)),
        (2, -1, Page(2, 2_000)),
        (3, 2_000, Page(3, 2_000)),
        (3, 2_001, Page(3, 2_000)),
        (10**30, 10**30, Page(PAGE_MAX, 2_000)),
    ],
)
def test_what_a_caller_sends_becomes_a_page_within_bounds(number, size, expected) -> None:
    """0 or none means the default, negative the maximum, larger is cut."""
    assert Page.asked(number, size) == expected


def test_the_echo_is_what_was_used() -> None:
    """Programs stop at the first page shorter than the size echoed."""
    assert Page.asked(None, -1).echo(7) == {"page": 1, "page_size": 2_000, "total_count": 7}


def test_pages_follow_one_another_without_gap_or_overlap() -> None:
    """Page n + 1 begins where page n ends."""
    pages = [Page(number, 7) for number in (1, 2, 3)]
    assert [(page.offset, page.offset + page.size) for page in pages] == [(0, 7), (7, 14), (14, 21)]


def test_a_scope_is_the_identitys_network_and_partner() -> None:
    """The door's word, nothing a caller sends."""
    assert Scope.of(_identity(3, 9)) == Scope(network_id=3, network_affiliate_id=9)


@pytest.mark.parametrize(("network_id", "partner_id"), [(0, 0), (3, 0), (0, 9), (-1, 9)])
def test_a_caller_who_is_no_partner_has_no_scope(network_id, partner_id) -> None:
    """Staff and visitors come in with zeros: nothing is theirs here."""
    with pytest.raises(ForbiddenError):
        Scope.of(_identity(network_id, partner_id))


def _identity(network_id: int, partner_id: int) -> Identity:
    return Identity(
        network_id=network_id,
        network_affiliate_id=partner_id,
        request_id="r",
        client_ip="127.0.0.1",
        method="GET",
        path="/",
        expires_at=1,
    )
