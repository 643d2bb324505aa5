"""Protects what counts as a use of a key, how uses add up, and when staff are warned."""

from dataclasses import replace

import pytest

from services.keys.usage import domain
from services.keys.usage.domain import Refused, Sighting, Usage, Use, Watched
from services.keys.usage.projection import check_door_event, digest_of
from shared.errors import InvalidError
from tests import usage_parts as parts
from tests.usage_parts import DAY, NOON, counted, summary

NOW = float(NOON + 60)
SEEN = Sighting("k", 201, float(NOON), "192.0.2.1", parts.ENDPOINT, 3)


def fold(*seen: Sighting, usage: Usage | None = None, now: float = NOW) -> Usage:
    return domain.folded(usage or Usage(), seen, now)


# --- what counts ----------------------------------------------------------------------------------


def test_a_request_let_in_is_a_use_whatever_its_answer() -> None:
    """A 404 or 502 of the service behind the door was still a use of the key."""
    found = domain.sightings(summary(counted("k", status=502, count=2), counted("k", count=5)))
    assert [(one.count, one.refusal) for one in found] == [(2, ""), (5, "")]


def test_a_refused_request_is_no_use_and_is_remembered_as_refused() -> None:
    """A revoked key that somebody still tries does not look used, and staff can see the trying."""
    refused = replace(SEEN, refusal="revoked", ip="198.51.100.9")
    usage = fold(SEEN, replace(refused, at=float(NOON + 5)))
    assert usage.last == Use(NOON, "192.0.2.1", parts.ENDPOINT)
    assert usage.count_on_day == 3
    assert usage.refused == Refused(NOON + 5, "198.51.100.9", "revoked")
    assert list(usage.sources) == ["192.0.2.0/24"]


def test_callers_without_a_key_are_nobodys_use() -> None:
    """Unknown keys and staff's calls have no key id."""
    assert list(domain.sightings(summary(counted("", refusal="unknown")))) == []


def test_a_stream_is_one_use_and_lasts_until_its_end() -> None:
    """Opening counts once; closing moves the last use and counts nothing."""
    at = float(NOON)
    seen = [*domain.sightings(parts.opened("k", at)), *domain.sightings(parts.closed("k", at + 50))]
    usage = fold(*seen)
    assert usage.count_on_day == 1
    assert usage.last == Use(at + 50, "192.0.2.1", domain.STREAM)


# --- how it adds up -------------------------------------------------------------------------------


def test_a_new_day_begins_at_zero_and_a_late_yesterday_does_not_count_into_it() -> None:
    """Days are UTC days of the sighting itself, not of its arrival."""
    yesterday = replace(SEEN, at=float(NOON - DAY), count=100)
    assert fold(yesterday, SEEN).count_on_day == 3
    assert fold(SEEN, yesterday).count_on_day == 3
    assert fold(SEEN, yesterday).sources["192.0.2.0/24"].count_on_day == 3


def test_a_source_counts_nothing_today_once_its_day_is_over() -> None:
    """The table shows today's uses."""
    (source,) = fold(SEEN).sources.values()
    assert (source.count_today(NOW), source.count_today(NOW + DAY)) == (3, 0)


def test_people_are_told_the_minute() -> None:
    """Seconds decide which use came last; they are not shown."""
    assert Use(NOON + 59.9).minute == NOON


def test_a_door_whose_clock_is_ahead_makes_no_use_in_the_future() -> None:
    """Else the key would look used until then, and no real use would show."""
    usage = fold(replace(SEEN, at=NOW + 10 * DAY))
    assert usage.last.at == NOW
    assert usage.count_on_day == 3


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.200", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:203.0.113.200", "203.0.113.0/24"),
        ("not an address", "unknown"),
        ("", "unknown"),
    ],
)
def test_addresses_are_gathered_by_network(ip: str, network: str) -> None:
    """One office is one source, however many addresses it has."""
    assert domain.source_of(ip) == network


def test_at_most_a_hundred_sources_are_kept_those_used_last() -> None:
    """What an attacker with many addresses can make us store is bounded."""
    seen = [replace(SEEN, ip=f"10.0.{n}.1", at=NOON - 200.0 + n) for n in range(130)]
    usage = fold(*seen)
    assert set(usage.sources) == {f"10.0.{n}.0/24" for n in range(30, 130)}


def test_sources_are_forgotten_ninety_days_after_their_last_use() -> None:
    """An address is kept no longer than it serves."""
    old, older = replace(SEEN, ip="10.0.1.1"), replace(SEEN, ip="10.0.2.1")
    usage = fold(replace(old, at=NOON - 90.0 * DAY), replace(older, at=NOON - 91.0 * DAY), SEEN)
    assert set(usage.sources) == {"10.0.1.0/24", "192.0.2.0/24"}


# --- warnings -------------------------------------------------------------------------------------

QUIET = Watched(is_active=True, works_since=NOW - 200 * DAY, last_used_at=NOW - DAY - 1)


def warned(**more: object) -> tuple[str, ...]:
    return domain.warnings(replace(QUIET, **more), NOW)  # type: ignore[arg-type]


def test_a_key_in_plain_use_is_not_warned_of() -> None:
    """A warning that is always there is read by nobody."""
    assert warned() == ()


def test_unused_for_ninety_days_needs_ninety_days_of_work() -> None:
    """A key that is new, or began to work a week ago, had no time to be used."""
    assert warned(last_used_at=0.0) == ("unused_90_days",)
    assert warned(last_used_at=NOW - 90 * DAY) == ("unused_90_days",)
    assert warned(last_used_at=NOW - 90 * DAY + 1) == ()
    assert warned(last_used_at=0.0, works_since=NOW - 7 * DAY) == ()


def test_the_eleventh_network_within_a_day_is_too_many() -> None:
    """Ten are not; nor are eleven over several days."""
    ten = [replace(SEEN, ip=f"10.0.{n}.1") for n in range(10)]
    assert fold(*ten).many_networks_at == 0
    eleven = fold(*ten, replace(SEEN, ip="10.0.99.1", at=NOON - 3600.0))
    assert eleven.many_networks_at == NOON - 3600
    assert warned(many_networks_at=eleven.many_networks_at) == ("many_networks",)
    assert warned(many_networks_at=NOW - DAY) == ()


def test_expiring_soon_is_asked_of_keys_without_a_successor() -> None:
    """The end of a replaced key is what its rotation wanted."""
    assert warned(expires_at=NOW + 14 * DAY) == ("expiring_soon",)
    assert warned(expires_at=NOW + 14 * DAY + 1) == ()
    assert warned(expires_at=NOW + DAY, is_superseded=True) == ()


def test_both_keys_of_a_running_rotation_tell_that_the_old_one_is_in_use() -> None:
    """On either row the question is whether the partner has changed over."""
    assert warned(is_superseded=True, last_used_at=NOW - 60) == ("predecessor_in_use",)
    assert warned(predecessor_used_at=NOW - 60) == ("predecessor_in_use",)
    assert warned(is_superseded=True, last_used_at=NOW - DAY) == ()
    assert warned(predecessor_used_at=0.0) == ()


def test_a_key_that_does_not_work_is_not_warned_of() -> None:
    """Nothing is left to be done about it."""
    everything = Watched(False, 0.0, NOW + 1, False, 0.0, NOW, NOW)
    assert domain.warnings(everything, NOW) == ()
    assert len(domain.warnings(replace(everything, is_active=True), NOW)) == 4


# --- what is read ---------------------------------------------------------------------------------


def test_a_summary_is_proved_to_be_of_its_records_partner() -> None:
    """Else one partner's traffic could be told of another's keys."""
    assert check_door_event(parts.record(summary(counted("k")))) == summary(counted("k"))
    with pytest.raises(InvalidError, match="is not that of the body"):
        check_door_event(parts.record(summary(counted("k")), key=b"201:8"))


def test_refusals_of_nobody_are_read_and_tell_nothing() -> None:
    """They come under a key of their own."""
    event = summary(counted("", refusal="unknown"), network_id=0, partner=0)
    assert check_door_event(parts.record(event, key=b"-:-")) == event
    with pytest.raises(InvalidError):
        check_door_event(parts.record(summary(counted("k")), key=b"-:-"))


def test_an_event_of_another_topic_is_refused() -> None:
    """A session among summaries is a producer's mistake."""
    session = parts.opened("k", 1.0)
    with pytest.raises(InvalidError, match="has no place"):
        check_door_event(parts.record(session, topic=parts.PARTITION.topic))


def test_an_event_is_known_by_its_source_and_id() -> None:
    """Two producers may use the same id."""
    event = summary(counted("k"))
    one = parts.item(event, headers=tuple(parts.headers(event, "1")))
    again = parts.item(event, 9, headers=tuple(parts.headers(event, "1")))
    other = parts.item(event, headers=tuple(parts.headers(event, "2")))
    assert digest_of(one) == digest_of(again) != digest_of(other)
