"""Protects what a batch comes to, and what a record's key proves."""

import pytest

from services.reporting.catalog import domain
from services.reporting.catalog.handlers import Check
from shared import events
from shared.errors import InvalidError
from shared.events import Offer, OfferPartner
from tests.catalog_parts import item, offer, record, removed

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
