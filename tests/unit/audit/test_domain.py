"""Protects: what the trail says about each event, and when calls become an incident."""

import msgspec
import pytest

from services.audit import domain
from shared import events

ACTOR = events.Actor(subject="user-7", name="Ada", behind="support-1")
ISSUED = events.KeyIssued(
    network_id=1,
    network_affiliate_id=2,
    occurred_at=1_767_225_600.25,
    actor=ACTOR,
    reason="new integration",
    key_id="key-1",
    masked="aff_…abcd",
    integration="crm",
)


def _count(key_id: str = "key-1", status: int = 429, count: int = 1, refusal: str = "rate limit"):
    return events.AccessCount(
        key_id=key_id,
        masked=f"aff_…{key_id}" if key_id else "",
        method="GET",
        endpoint="/v1/affiliates/network",
        status=status,
        client_ip="192.0.2.1",
        count=count,
        refusal=refusal,
    )


def _summary(*counts: events.AccessCount, partner: int = 2, second: int = 1_767_225_600):
    return events.AccessSummary(
        gateway="gateway-1",
        second=second,
        network_id=1 if partner else 0,
        network_affiliate_id=partner,
        counts=counts,
    )


def test_a_key_event_is_one_entry_with_actor_partner_and_key():
    """Search finds it by each, and the body is the whole event."""
    [draft] = domain.drafts("id-1", ISSUED)
    assert draft == domain.Draft(
        network_id=1,
        event_id="id-1",
        kind="KeyIssued",
        occurred_at=1_767_225_600.25,
        actor="user-7",
        network_affiliate_id=2,
        key_id="key-1",
        body=msgspec.to_builtins(ISSUED, str_keys=True) | {"allowlist": [], "override_reasons": []},
    )


def test_an_event_about_no_key_has_an_empty_key():
    """A partner's suspension concerns all their keys."""
    event = events.PartnerSuspended(
        network_id=1, network_affiliate_id=2, occurred_at=1.0, actor=ACTOR
    )
    [draft] = domain.drafts("id-1", event)
    assert (draft.kind, draft.key_id) == ("PartnerSuspended", "")


def test_a_summary_makes_one_entry_for_each_refused_key_and_none_for_served_calls():
    """Served calls are no audit matter; refusals are found by key."""
    summary = _summary(
        _count("key-2", status=403, refusal="allowlist"),
        _count("key-1", count=3),
        _count("key-1", status=200, refusal=""),
        _count("key-1", status=401, refusal="revoked"),
    )
    found = domain.drafts("id-1", summary)
    assert [(draft.event_id, draft.kind, draft.key_id) for draft in found] == [
        ("id-1/0", "AccessRefused", "key-1"),
        ("id-1/1", "AccessRefused", "key-2"),
    ]
    assert [row["count"] for row in found[0].body["refused"]] == [3, 1]
    assert found[0].actor == "aff_…key-1"
    assert domain.drafts("id-2", _summary(_count(status=200, refusal=""))) == []


def test_refusals_of_unknown_keys_go_to_network_zero():
    """They belong to no network that is known."""
    [draft] = domain.drafts("id-1", _summary(_count("", status=401, refusal="unknown"), partner=0))
    assert (draft.network_id, draft.actor, draft.key_id) == (0, "unknown key", "")


def test_a_session_is_an_entry_by_its_masked_key():
    """Who read the stream, from where, and how it ended."""
    event = events.SessionClosed(
        session_id="s",
        network_id=1,
        network_affiliate_id=2,
        key_id="key-1",
        masked="aff_…abcd",
        client_ip="192.0.2.1",
        occurred_at=5.0,
        reason="revoked",
        events=10,
        bytes=1000,
        cursor="c",
    )
    [draft] = domain.drafts("id-1", event)
    assert (draft.kind, draft.actor, draft.body["reason"]) == (
        "SessionClosed",
        "aff_…abcd",
        "revoked",
    )


def test_a_nul_cannot_keep_an_event_out_of_the_trail():
    """Postgres holds no NUL: who writes one into a reason must not escape the audit by it."""
    event = msgspec.structs.replace(ISSUED, reason="a\0b", actor=events.Actor(subject="\0"))
    [draft] = domain.drafts("id-1", event)
    assert (draft.body["reason"], draft.actor) == ("a\ufffdb", "\ufffd")


def test_an_event_that_came_before_makes_no_second_draft():
    """Known by the store, or twice in one batch."""
    one, two = (domain.drafts(name, ISSUED)[0] for name in ("one", "two"))
    assert domain.unique_drafts([one, two, one], frozenset({"two"})) == [one]


# --- the rate-limit rule --------------------------------------------------------------------------

RULE = domain.RateLimitRule(hits_min=10, window_seconds=60, grace_seconds=5)
PARTNER = (1, 2)
START = 1_767_225_600


def _play(*hits: tuple[int, int], rule: domain.RateLimitRule = RULE):
    """The state and the events after `hits` of (second after START, refused calls)."""
    state, found = domain.Hits(), []
    for offset, (second, count) in enumerate(hits):
        state, events_ = rule.count(
            PARTNER, state, offset=offset, second=START + second, hits=count
        )
        found += events_
    return state, found


def test_ten_hits_within_a_window_open_one_incident():
    """Exactly at the threshold, and not again for more of the same."""
    _, found = _play((0, 9))
    assert found == []
    state, found = _play((0, 4), (59, 6), (59, 30))
    assert [type(event) for event in found] == [events.AnomalyOpened]
    assert found[0].anomaly_id == domain.anomaly_id(1, 2, "rate_limit_hits", START)
    assert found[0].detail == {"hits": 10, "window_seconds": 60}
    assert state.incident is not None
    assert state.incident.hits == 40


def test_hits_of_two_windows_do_not_add_up():
    """Nine and nine is not eighteen."""
    assert _play((59, 9), (60, 9))[1] == []


def test_an_incident_goes_on_over_windows_while_hits_go_on():
    """It is one incident until there was a minute without."""
    _, found = _play((0, 10), (50, 10), (110, 10), (170, 1))
    assert [type(event) for event in found] == [events.AnomalyOpened]


def test_an_incident_closes_once_when_a_window_and_the_grace_passed_quietly():
    """Not earlier, since summaries may be late; not twice."""
    state, _ = _play((0, 10), (30, 2))
    same, found = RULE.settle(PARTNER, state, now=START + 30 + 65.0)
    assert (same, found) == (state, [])
    closed, found = RULE.settle(PARTNER, state, now=START + 30 + 65.1)
    assert [type(event) for event in found] == [events.AnomalyClosed]
    assert found[0].detail == {"hits": 12}
    assert RULE.settle(PARTNER, closed, now=START + 1_000.0) == (closed, [])


def test_hits_after_quiet_close_the_old_incident_before_they_count_for_a_new_one():
    """A worker that was away finds both in its backlog."""
    _, found = _play((0, 10), (600, 10))
    assert [type(event).__name__ for event in found] == [
        "AnomalyOpened",
        "AnomalyClosed",
        "AnomalyOpened",
    ]
    assert len({event.anomaly_id for event in found}) == 2


def test_a_window_opens_no_second_incident():
    """Hits that arrive after its incident was closed do not open it again."""
    state, _ = _play((0, 10))
    state, _ = RULE.settle(PARTNER, state, now=START + 500.0)
    _, found = RULE.count(PARTNER, state, offset=9, second=START + 1, hits=50)
    assert found == []


def test_a_record_that_arrives_again_changes_nothing():
    """Redelivery after a crash is known by its offset."""
    state, _ = _play((0, 4), (1, 5))
    assert RULE.count(PARTNER, state, offset=1, second=START + 1, hits=5) == (state, [])
    assert RULE.count(PARTNER, state, offset=2, second=START + 1, hits=1)[1] != []


def test_a_late_summary_counts_in_the_window_counted_now():
    """Two gateways do not publish in step."""
    state, _ = _play((61, 5), (59, 5))
    assert (state.count, state.last_second) == (10, START + 61)


@pytest.mark.parametrize(("partner", "status", "expected"), [(2, 429, 3), (2, 403, 0), (0, 429, 0)])
def test_only_rate_limits_of_known_partners_count(partner: int, status: int, expected: int):
    """An incident is a partner's."""
    assert (
        domain.rate_limit_hits(_summary(_count(status=status, count=3), partner=partner))
        == expected
    )
