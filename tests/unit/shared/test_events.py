"""Protects the contract of the log: what enters is what the schemas say, and nothing else."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.errors import InvalidError


def _click(**changes) -> events.Click:
    fields = {
        "network_id": 7,
        "network_affiliate_id": 42,
        "transaction_id": "0f" * 16,
        "currency_id": "USD",
        "unix_timestamp": 1_767_225_600,
        "is_unique": 1,
        "relationship": events.TrafficRelationship(
            offer=events.OfferReference(network_offer_id=3, network_id=7, name="Shoes")
        ),
    }
    return events.Click(**(fields | changes))


def test_a_click_survives_the_way_through_the_log():
    """What was encoded is what a reader of the log gets."""
    click = _click(sub1="a", revenue=25.996)
    assert events.check_tracked(events.Click, b"7:42", events.encode(click)) == click


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        (b'"is_unique":1', b'"is_unique":2', "$.is_unique"),
        (b'"unix_timestamp":1767225600', b'"unix_timestamp":-1', "$.unix_timestamp"),
        (b'"currency_id":"USD"', b'"currency_id":"usd"', "$.currency_id"),
        (b'"currency_id":"USD"', b'"currency_id":"USD\\n"', "$.currency_id"),
        (b'0f0f"', b'0f0f\\n"', "$.transaction_id"),
        (b'"sub1":""', b'"sub1":null', "$.sub1"),
        (b'"sub1":""', b'"payout":1', "payout"),
        (b'"revenue":0.0', b'"revenue":0.1234567', "six decimals"),
        (b'"revenue":0.0', b'"revenue":1e12', "$.revenue"),
        (b'"network_offer_id":3', b'"network_offer_id":0', "network_offer_id"),
    ],
)
def test_a_bad_click_is_refused_naming_the_place(before, after, place):
    """A refusal says where the fault is, so that a network can mend its tracker."""
    value = events.encode(_click())
    assert before in value
    with pytest.raises(InvalidError) as caught:
        events.check_tracked(events.Click, b"7:42", value.replace(before, after))
    assert place in caught.value.message


def test_two_objects_in_one_record_are_refused():
    """A store that reads JSON lines would count both."""
    value = events.encode(_click())
    with pytest.raises(InvalidError, match="trailing"):
        events.check_tracked(events.Click, b"7:42", value + value)


@pytest.mark.parametrize("key", [b"7:43", b"8:42", b"7:42 ", b"", None])
def test_a_record_under_another_partners_key_is_refused(key):
    """Scope is by key everywhere, so body and key must name the same partner."""
    with pytest.raises(InvalidError, match="network 7, partner 42"):
        events.check_tracked(events.Click, key, events.encode(_click()))


def test_a_tombstone_is_refused_where_a_value_is_needed():
    """Tracking topics are never compacted."""
    with pytest.raises(InvalidError, match="tombstone"):
        events.check_tracked(events.Click, b"7:42", None)


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=6))
def test_every_amount_of_six_decimals_passes(amount):
    """Doubles carry the whole range of amounts exactly; none is refused by rounding."""
    value = events.encode(_click()).replace(b'"revenue":0.0', f'"revenue":{amount:f}'.encode())
    decoded = events.decode(events.Click, value)
    assert f"{decoded.revenue:.6f}" == f"{amount:.6f}" or amount == 0


def test_the_envelope_comes_back_from_its_headers():
    """CloudEvents binary mode: attributes in headers."""
    headers = events.headers(
        events.KeyRevoked, source="portico/keys", occurred_at=0.25, event_id="e1", traceparent="tp"
    )
    assert events.envelope(headers) == events.Envelope(
        id="e1", type="portico.KeyRevoked", source="portico/keys", time="1970-01-01T00:00:00.250Z"
    )
    assert dict(headers)["ce_specversion"] == b"1.0"
    assert dict(headers)["traceparent"] == b"tp"


@pytest.mark.parametrize("missing", ["ce_id", "ce_type", "ce_source"])
def test_a_record_without_a_required_attribute_is_refused(missing):
    """Effects are unique by event id; without one they could not be."""
    headers = [
        item
        for item in events.headers(events.Click, source="s", occurred_at=0)
        if item[0] != missing
    ]
    with pytest.raises(InvalidError, match=missing):
        events.envelope(headers)


def test_no_event_of_the_key_topic_has_room_for_a_secret():
    """A secret may stand in one answer only; no schema gives it a field."""
    for event in events.KeysEvent.__args__:
        names = {field.name for field in msgspec.structs.fields(event)}
        assert not names & {"key", "secret", "token", "ciphertext"}, event
