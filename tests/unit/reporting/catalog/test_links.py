"""Protects a partner's links: published, made of codes, direct, and to a further destination."""

import pytest

from services.reporting.catalog.links import Linker, with_query
from shared.events import OfferUrl
from tests.catalog_parts import offer, partner, profile, terms

LINKER = Linker(
    9,
    profile(1, default_tracking_domain="go.example"),
    partner(9, link_code="9W598"),
)
CODED = {"link_code": "2CTPL", "urls": (OfferUrl(network_offer_url_id=4, name="Sandals"),)}
MADE = "https://go.example/9W598/2CTPL/"


def tracking(thing, own=None, linker=LINKER) -> str:
    return linker.links(thing, own)["tracking_url"]


def test_a_link_that_was_not_published_is_made_of_the_codes() -> None:
    """So every offer that may be run has one."""
    links = LINKER.links(offer(70, **CODED), None)
    assert links == {
        "tracking_url": MADE,
        "redirect_tracking_url": MADE,
        "impression_tracking_url": "",
    }


def test_a_published_link_stands() -> None:
    """The network's tracker knows better than the rule."""
    own = terms(
        70, 9, tracking_url="https://own.example/", redirect_tracking_url="https://r.example/"
    )
    links = LINKER.links(offer(70, **CODED), own)
    assert links["tracking_url"] == "https://own.example/"
    assert links["redirect_tracking_url"] == "https://r.example/"


def test_the_offers_own_domain_goes_before_the_networks() -> None:
    """A network may have several."""
    assert tracking(offer(70, **CODED, tracking_domain="b.example")) == MADE.replace("go", "b")


@pytest.mark.parametrize(
    ("linker", "code"),
    [
        (LINKER, ""),
        (Linker(9), "2CTPL"),
        (Linker(9, profile(1), partner(9, link_code="9W598")), "2CTPL"),
        (Linker(9, profile(1, default_tracking_domain="go.example"), partner(9)), "2CTPL"),
    ],
)
def test_a_link_with_a_part_missing_is_empty_rather_than_wrong(linker, code) -> None:
    """Domain, partner and offer are each needed, or the click would be discarded."""
    assert tracking(offer(70, link_code=code), None, linker) == ""


DIRECT = {"is_use_direct_linking": True, "landing_page_url": "https://shoes.example/spring"}


def test_a_direct_link_is_the_advertisers_page_with_offer_and_partner() -> None:
    """The page's script records the click; the redirecting link stays known beside it."""
    links = LINKER.links(offer(70, **CODED, **DIRECT), None)
    assert (
        links["tracking_url"] == "https://shoes.example/spring?_ef_transaction_id=&oid=70&affid=9"
    )
    assert links["redirect_tracking_url"] == MADE


def test_direct_linking_without_a_page_falls_back_to_the_redirect() -> None:
    """A link that works."""
    assert tracking(offer(70, **CODED, is_use_direct_linking=True)) == MADE


def test_a_page_is_told_with_direct_linking_alone() -> None:
    """Else it is the advertiser's secret."""
    assert tracking(offer(70, **CODED, landing_page_url="https://shoes.example/")) == MADE


def test_a_further_destination_is_named_in_the_link() -> None:
    """0 is the offer's own."""
    thing = offer(70, **CODED)
    assert LINKER.to_url(thing, None, 0) == MADE
    assert LINKER.to_url(thing, None, 4) == f"{MADE}?uid=4"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("https://shoes.example/sandals", "https://shoes.example/sandals"),
        ("", DIRECT["landing_page_url"]),
    ],
)
def test_a_direct_link_to_a_further_destination_is_its_page(page, expected) -> None:
    """The offer's own where the destination has none."""
    url = OfferUrl(network_offer_url_id=4, name="Sandals", landing_page_url=page)
    found = LINKER.to_url(offer(70, urls=(url,), **DIRECT), None, 4)
    assert found == f"{expected}?_ef_transaction_id=&uid=4&oid=70&affid=9"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/", "https://a.example/?uid=4"),
        ("https://a.example/?x=1", "https://a.example/?x=1&uid=4"),
        ("https://a.example/?", "https://a.example/?uid=4"),
        ("https://a.example/?x=1&", "https://a.example/?x=1&uid=4"),
        ("https://a.example/?x=1#top", "https://a.example/?x=1&uid=4#top"),
        ("https://[a.example/#top", "https://[a.example/?uid=4#top"),
        ("", ""),
    ],
)
def test_parameters_stand_behind_those_that_a_link_has(url, expected) -> None:
    """Before a fragment, and whatever the network calls a link."""
    assert with_query(url, {"uid": 4}) == expected
