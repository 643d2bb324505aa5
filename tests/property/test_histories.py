"""Protects the comparison of reporting with a recount: a rule that is broken shows in the totals."""

from collections import Counter
from collections.abc import Iterable

import pytest

from tests import recount
from tests.histories import History
from tests.recount import Facts, Scope, Sent

NOW = 1_795_000_000
RECORDS = 1_500


@pytest.fixture(scope="module")
def history() -> History:
    """One as the comparison uses it, smaller."""
    return History(seed=3, records=RECORDS, network=1, now=NOW)


def facts_of(log: Iterable[Sent], scope: Scope) -> Facts:
    """What a log comes to for a partner."""
    facts = Facts()
    for sent in log:
        if sent.scope == scope:
            facts.add(sent)
    return facts


def total_of(history: History, facts: Facts, scope: Scope) -> recount.Sums:
    """The grand total of a partner's reports."""
    return recount.total(facts.counted(history.rates[scope[0]], "EUR"))


def test_a_history_has_all_that_it_promises(history: History) -> None:
    """Of each partner, so that no comparison is one of nothing with nothing."""
    for scope in history.partners:
        mine = [sent for sent in history.log if sent.scope == scope]
        conversions = [sent.body for sent in mine if sent.kind == "conversions"]
        versions = [(body["conversion_id"], body["version"]) for body in conversions]
        assert max(Counter(versions).values()) > 1
        assert any(
            first[0] == later[0] and first[1] > later[1]
            for index, first in enumerate(versions)
            for later in versions[index + 1 :]
        )
        clicks = [sent.body["transaction_id"] for sent in mine if sent.kind == "clicks"]
        assert max(Counter(clicks).values()) > 1
        standing = facts_of(mine, scope).conversions.values()
        assert {body["currency_id"] for body in standing} == {"USD", "EUR", "JPY"}
        assert {body["is_event"] for body in standing} == {True, False}
        assert any(body["is_scrub"] for body in standing)
        assert any(body["is_view_through"] for body in standing)
        released = {body["hold"]["status"] for body in standing if "hold" in body}
        assert released == {"on_hold", "approved", "rejected"}
        assert all(total_of(history, facts_of(mine, scope), scope).values())


def test_a_repeated_log_comes_to_the_same(history: History) -> None:
    """A control: what the service must not mind, the recount does not mind either."""
    for scope in history.partners:
        once, twice = facts_of(history.log, scope), facts_of(history.log * 2, scope)
        assert total_of(history, once, scope) == total_of(history, twice, scope)


@pytest.mark.parametrize("broken", ["last_wins", "first_wins", "scrubs", "lost_tail", "partners"])
def test_a_broken_rule_changes_the_total(history: History, broken: str) -> None:
    """So a service that broke it would fail the comparison."""
    right = [total_of(history, facts_of(history.log, each), each) for each in history.partners]
    wrong = [total_of(history, _broken(history, each, broken), each) for each in history.partners]
    assert wrong != right


def _broken(history: History, scope: Scope, rule: str) -> Facts:
    facts = facts_of(history.log, scope)
    mine = [sent for sent in history.log if sent.scope == scope]
    conversions = [sent.body for sent in mine if sent.kind == "conversions"]
    match rule:
        case "last_wins":
            facts.conversions = {body["conversion_id"]: body for body in conversions}
        case "first_wins":
            facts.conversions = {body["conversion_id"]: body for body in reversed(conversions)}
        case "scrubs":
            facts.conversions = {
                key: {**body, "is_scrub": False} for key, body in facts.conversions.items()
            }
        case "lost_tail":
            facts = facts_of(mine[: len(mine) * 9 // 10], scope)
        case _:
            for other in history.partners:
                facts.clicks |= facts_of(history.log, other).clicks
    return facts
