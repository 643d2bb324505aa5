"""Protects what a batch comes to, what a record's key proves, and what partners see of a thing."""

import pytest

from services.reporting.catalog import domain, wire
from services.reporting.catalog.handlers import Check
from shared import events
from shared.errors import InvalidError
from shared.events import Offer, OfferCategory, OfferPartner, OfferUrl
from shared.http import json_bytes
from tests.catalog_parts import item, offer, payout, profile, record, removed, terms

CHECK = Check()
OFFERS = "network.offers.v1"


def waves(*changes: domain.Change) -> list[tuple[dict, dict]]:
    """Waves as (saved versions, removals) by key."""
    pairs = [(item(change).event, item(change).record.value) for change in changes]
    return [
        (
            {key: thing.version for key, (thing, _) in wave.saved.items()},
            {key: gone.event_id for key, gone in wave.removed.items()},
        )
        for wave in domain.waves(pairs)
    ]


# --- batches --------------------------------------------------------------------------------------


def test_a_thing_saved_again_and_again_is_written_once_at_its_highest_version() -> None:
    """One statement must not meet a row twice."""
    assert waves(offer(1, 2), offer(2, 1), offer(1, 5), offer(1, 4)) == [
        ({(1, 1): 5, (1, 2): 1}, {})
    ]


def test_of_two_of_the_same_version_the_first_stands() -> None:
    """As it would if each came in a batch of its own."""
    first = offer(1, 3, name="first")
    pairs = [(thing, events.encode(thing)) for thing in (first, offer(1, 3, name="second"))]
    assert domain.waves(pairs)[0].saved[(1, 1)] == (first, events.encode(first))


def test_a_removal_between_two_savings_keeps_its_place() -> None:
    """Saved, removed, saved again: three turns for that thing, one for all others."""
    gone = removed(offer(1))
    assert waves(offer(1, 1), offer(2, 1), gone, offer(3, 1), offer(1, 2)) == [
        ({(1, 1): 1, (1, 2): 1, (1, 3): 1}, {}),
        ({}, {(1, 1): "removal"}),
        ({(1, 1): 2}, {}),
    ]


def test_of_two_removals_in_a_row_the_later_one_is_remembered() -> None:
    """It is the one that may be sent again."""
    assert waves(removed(offer(1), "a"), removed(offer(1), "b")) == [({}, {(1, 1): "b"})]


def test_no_changes_make_no_waves() -> None:
    """A batch may hold changes of other kinds only."""
    assert waves() == []


# --- records --------------------------------------------------------------------------------------


def test_a_record_is_the_thing_that_its_key_names() -> None:
    """The check answers with the event itself."""
    thing = offer(70, network_id=3)
    assert CHECK(record(OFFERS, b"3:70", events.encode(thing))) == thing


@pytest.mark.parametrize("key", [b"3:71", b"4:70", b"3:70:9", b"3", b"03:70", b"3:+70", b"", None])
def test_a_record_under_another_key_is_refused(key) -> None:
    """Compaction goes by the key: under a wrong one, a thing would outlive its removal."""
    with pytest.raises(InvalidError, match="key"):
        CHECK(record(OFFERS, key, events.encode(offer(70, network_id=3))))


def test_a_record_of_another_schema_is_refused() -> None:
    """The message names the schema and the place."""
    with pytest.raises(InvalidError, match=r"Offer: .*visibility"):
        CHECK(record(OFFERS, b"3:70", b'{"network_id":3,"network_offer_id":70,"visibility":1}'))


def test_a_record_without_a_value_removes_what_its_key_names() -> None:
    """The event's id names the removal, so that it can be known again."""
    change = CHECK(record("network.offer_partners.v1", b"3:70:9", None, [("ce_id", b"e1")]))
    assert change == domain.Removed(OfferPartner, (3, 70, 9), "e1")


def test_a_removal_without_an_id_still_removes() -> None:
    """A link that was taken away must not stay because a header is missing."""
    nameless = record(OFFERS, b"3:70", None)
    assert CHECK(nameless) == domain.Removed(Offer, (3, 70), f"0:{nameless.offset}")


@pytest.mark.parametrize("key", [b"3", b"3:", b"3:70:9", b"a:b", b"-3:70", b"3:99999999999999999"])
def test_a_removal_of_no_thing_is_refused(key) -> None:
    """The message shows the key and what it should be made of."""
    with pytest.raises(InvalidError, match="network_id:network_offer_id"):
        CHECK(record(OFFERS, key, None))


# --- what partners see ----------------------------------------------------------------------------

RICH = offer(
    70,
    3,
    network_id=3,
    visibility="require_approval",
    daily_payout_cap=1000.5,
    category=OfferCategory(network_category_id=4, network_id=3, name="Shoes"),
    payouts=(payout(25.996), payout(5.0, 701)),
    urls=(OfferUrl(network_offer_url_id=1, name="Sale"),),
)
OWN = terms(
    70,
    9,
    network_id=3,
    application_status="approved",
    redirect_tracking_url="https://go.example/r/",
    impression_tracking_url="https://go.example/i/",
    custom_payouts=(payout(31.25),),
)


@pytest.mark.parametrize("own", [OWN, None])
def test_an_offer_has_every_member_of_its_shape_and_no_other(own) -> None:
    """Programs read members without asking whether they are there."""
    shown = domain.shown_offer(RICH, own)
    assert set(shown) == set(wire.Offer.model_fields)
    assert wire.Offer.model_validate(shown, strict=True)


def test_an_offer_shows_what_the_network_said_of_it() -> None:
    """Base members come unchanged, related ones counted."""
    shown = domain.shown_offer(RICH, OWN)
    assert (shown["network_offer_id"], shown["name"]) == (70, "Offer 70, version 3")
    assert shown["network_category_id"] == 4
    assert shown["relationship"]["category"]["name"] == "Shoes"
    assert shown["relationship"]["payouts"]["total"] == 2
    assert shown["relationship"]["urls"]["entries"] == [
        {"network_offer_url_id": 1, "name": "Sale", "preview_url": ""}
    ]


def test_an_offer_shows_the_partners_own_links_and_payouts() -> None:
    """What is agreed with the partner stands beside what everybody gets."""
    shown = domain.shown_offer(RICH, OWN)
    assert shown["tracking_url"] == "https://go.example/3/9/70/"
    assert shown["redirect_tracking_url"] == "https://go.example/r/"
    assert shown["impression_tracking_url"] == "https://go.example/i/"
    custom = shown["relationship"]["custom_payout_settings"]
    assert custom["total"] == 1
    assert custom["entries"][0]["payout_amount"] == 31.25
    assert custom["entries"][0]["network_offer_id"] == 70
    assert shown["relationship"]["payouts"]["entries"][0]["payout_amount"] == 25.996


def test_an_offer_without_terms_has_empty_links() -> None:
    """Empty text, not null, where nothing is set."""
    shown = domain.shown_offer(RICH, None)
    assert shown["tracking_url"] == shown["redirect_tracking_url"] == ""
    assert shown["relationship"]["custom_payout_settings"] == {"total": 0, "entries": []}


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (25.996, b"25.996"),
        (5.0, b"5"),
        (0.0, b"0"),
        (-0.0, b"0"),
        (1e9, b"1000000000"),
        (0.1, b"0.1"),
    ],
)
def test_money_is_the_shortest_exact_number(amount, text) -> None:
    """Programs add amounts up and compare for equality."""
    shown = domain.shown_offer(offer(1, payouts=(payout(amount),)), None)
    entry = shown["relationship"]["payouts"]["entries"][0]
    assert b'"payout_amount":%b,' % text in json_bytes(entry)


def test_a_description_with_control_characters_is_escaped() -> None:
    """Deployed programs fail on raw ones."""
    shown = domain.shown_offer(offer(1, html_description="a\x00b\x1f\n"), None)
    assert rb'"html_description":"a\u0000b\u001f\n"' in json_bytes(shown)


def test_a_network_shows_its_branding_and_nothing_internal() -> None:
    """The version is the platform's own business."""
    shown = domain.shown_network(profile(3, 7, currency_id="EUR", timezone_id=56))
    assert wire.Network.model_validate(shown, strict=True)
    assert (shown["network_id"], shown["currency_id"], shown["timezone_id"]) == (3, "EUR", 56)
    assert "version" not in shown
