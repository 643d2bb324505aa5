"""The simulator's story is repeatable and correct, and its ledger adds up exactly.

Every figure that the demo compares comes from here, so the ledger is recounted independently.
"""

import tempfile
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import utc
from shared.errors import SetupError
from shared.events import Click, Conversion, Impression, Tracked, decode, encode
from tools.simulator import cast, traffic
from tools.simulator.api import _sum, _worth
from tools.simulator.ledger import Ledger, Queued
from tools.simulator.rates import worth
from tools.simulator.traffic import Item

BORN_AT = 1_767_225_600
DAY = 86_400
EVERYBODY = cast.make(1, BORN_AT)
TRAFFIC = traffic.Traffic(EVERYBODY, 1, BORN_AT)


def _id(event: Tracked) -> str:
    return event.conversion_id if isinstance(event, Conversion) else event.transaction_id


def _in_own_currency(event: Click | Conversion) -> Decimal:
    """What it earned, in the currency of its network, by the rate of its UTC day."""
    at = event.unix_timestamp if isinstance(event, Click) else event.conversion_unix_timestamp
    own = {network.network_id: network.currency_id for network in EVERYBODY.networks}
    rate = worth(event.currency_id, own[event.network_id], utc(at).date())
    return Decimal(repr(event.revenue)) * rate


@given(number=st.integers(0, 10**9), at=st.floats(BORN_AT - 90 * DAY, BORN_AT + 90 * DAY))
def test_a_story_is_repeatable_and_meets_the_schemas(number: int, at: float) -> None:
    """The same number tells the same story, and each of its records passes the check on entry."""
    items = TRAFFIC.story(number, at)
    assert items == TRAFFIC.story(number, at)
    for item in items:
        assert decode(type(item.event), encode(item.event)) == item.event


@given(number=st.integers(0, 10**6))
def test_a_story_is_told_in_its_own_order(number: int) -> None:
    """Nothing reaches the log before it happened; versions count up and keep their time."""
    at = BORN_AT + 0.5
    items = TRAFFIC.story(number, at)
    assert isinstance(items[0].event, Click | Impression)
    assert all(item.due_at >= at for item in items)
    chains: dict[str, list[Conversion]] = {}
    for item in items:
        if isinstance(item.event, Conversion) and not item.is_copy:
            assert item.due_at >= item.event.conversion_unix_timestamp
            assert item.event.transaction_id == items[0].event.transaction_id
            chains.setdefault(item.event.conversion_id, []).append(item.event)
    for chain in chains.values():
        assert [one.version for one in chain] == list(range(1, len(chain) + 1))
        assert len({one.conversion_unix_timestamp for one in chain}) == 1


@given(numbers=st.sets(st.integers(0, 10**6), min_size=2, max_size=40))
def test_stories_never_share_an_id(numbers: set[int]) -> None:
    """Ids are unique over stories, so that whatever is sent after a restart is new."""
    seen: Counter[str] = Counter()
    for number in numbers:
        seen.update({_id(item.event) for item in TRAFFIC.story(number, float(BORN_AT))})
    assert set(seen.values()) == {1}


@given(visits=st.integers(0, 3_000), hours=st.integers(1, 24 * 9))
def test_history_has_every_visit_once_in_order_and_in_its_period(visits: int, hours: int) -> None:
    """The week holds as many visits as asked for, none outside it."""
    start, end = float(BORN_AT), float(BORN_AT + hours * 3_600)
    times = list(traffic.history_times(start, end, visits))
    assert len(times) == visits
    assert times == sorted(times)
    assert all(start <= at < end for at in times)


def test_the_day_is_busier_in_the_evening_than_at_night() -> None:
    """The daily curve is there: a positive control of the even case."""
    times = list(traffic.history_times(float(BORN_AT), float(BORN_AT + 7 * DAY), 20_000))
    by_hour = Counter(int(at // 3_600) % 24 for at in times)
    assert by_hour[20] > 3 * by_hour[3]


def test_history_comes_in_due_order_with_every_kind_of_thing() -> None:
    """Late, repeated, pending, rejected, held, view-through: each occurs in a small week."""
    start = float(BORN_AT - 7 * DAY)
    items = list(traffic.history(TRAFFIC, start, float(BORN_AT), 6_000))
    assert [item.due_at for item in items] == sorted(item.due_at for item in items)
    conversions = [item.event for item in items if isinstance(item.event, Conversion)]
    assert {one.status for one in conversions} == {
        "approved",
        "pending",
        "rejected",
        "invalid",
        "on_hold",
    }
    assert any(one.is_view_through for one in conversions)
    assert any(one.is_event for one in conversions)
    assert any(one.hold is not None for one in conversions)
    assert any(item.is_copy for item in items)
    clicks = [item.event for item in items if isinstance(item.event, Click)]
    assert any(one.error_code for one in clicks)
    assert any(one.revenue for one in clicks)
    assert 5_500 < len({_id(one) for one in clicks}) < 6_500


@st.composite
def _scripts(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What happens to a ledger: visits, the passing of time, sending, confirming, crashes."""
    steps = st.tuples(
        st.sampled_from(["visit", "release", "send", "confirm", "crash"]), st.integers(1, 40)
    )
    return draw(st.lists(steps, min_size=5, max_size=40))


@given(script=_scripts())
def test_the_ledger_names_exactly_what_was_or_will_be_sent(script: list[tuple[str, int]]) -> None:
    """Through crashes at any step: all that is sent is in the book, all in the book is sent.

    Readers count by id, so a record sent again after a crash changes nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        play = _Play(Path(folder) / "ledger.sqlite")
        for what, amount in script:
            play.step(what, amount)
        play.finish()


class _Play:
    """One ledger, the clock and the log, with an independent count of what happened."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ledger = Ledger(file)
        self.ledger.born(1, BORN_AT)
        self.now = float(BORN_AT)
        self.told: list[Item] = []
        self.log: list[Queued] = []
        self.unconfirmed: list[Queued] = []

    def step(self, what: str, amount: int) -> None:
        match what:
            case "visit":
                number = self.ledger.stories
                items = [i for n in range(amount) for i in TRAFFIC.story(number + n, self.now)]
                items.sort(key=lambda item: item.due_at)
                self.ledger.enter(items, self.now, stories=number + amount)
                self.told += items
            case "release":
                self.now += amount * 1_800
                self.ledger.release(self.now, 10_000)
            case "send":
                self.unconfirmed = self.ledger.queued(amount)
                self.log += self.unconfirmed
            case "confirm" if self.unconfirmed:
                self.ledger.confirm(self.unconfirmed[-1].sequence)
                self.unconfirmed = []
            case _:
                self.ledger.close()
                self.ledger = Ledger(self.file)
                self.unconfirmed = []

    def finish(self) -> None:
        while batch := self.ledger.queued(50):
            self.log += batch
            self.ledger.confirm(batch[-1].sequence)
        due = [item for item in self.told if item.due_at <= self.now]
        assert {one.value for one in self.log} == {encode(item.event) for item in due}
        assert sum(self.ledger.sent().values()) == len(due)
        assert self.ledger.planned() == len(self.told) - len(due)
        firsts = dict.fromkeys(one.sequence for one in self.log)
        assert list(firsts) == sorted(firsts)
        for partner in {(i.event.network_id, i.event.network_affiliate_id) for i in due}:
            self._recount(partner, [item.event for item in due])
        self.ledger.close()

    def _recount(self, partner: tuple[int, int], events: list[Tracked]) -> None:
        """The totals of one partner, from the events alone."""
        own = [one for one in events if (one.network_id, one.network_affiliate_id) == partner]
        newest: dict[tuple[type, str], Tracked] = {}
        for one in sorted(own, key=lambda event: getattr(event, "version", 1)):
            newest[type(one), _id(one)] = one
        clicks = [one for one in newest.values() if isinstance(one, Click)]
        approved = [
            one
            for one in newest.values()
            if isinstance(one, Conversion) and one.status == "approved"
        ]
        found = _sum(self.ledger.totals(*partner, 0, 2**40), _worth(EVERYBODY))
        earned = sum((_in_own_currency(one) for one in (*clicks, *approved)), Decimal(0))
        assert Decimal(found["revenue"]) == earned
        assert found["unique_clicks"] == sum(one.is_unique for one in clicks)
        assert found["clicks"] == sum(one.error_code == 0 for one in clicks)
        assert sum(found["conversions"].get("approved", {}).values()) == len(approved)


def test_another_seed_is_refused(tmp_path: Path) -> None:
    """A ledger never mixes two stories."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.born(1, 1_000.0) == ledger.born(1, 2_000.0) == 1_000
    with pytest.raises(SetupError, match="seed 1"):
        ledger.born(2, 3_000.0)
    ledger.close()
