"""Protects a bucket that hears late: it comes to stand where it would, had it heard in time."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.ledger import Heard, Ledger
from services.gateway.limiter import DEBT_SECONDS, Limiter
from services.gateway.spill import SPAN_MICROSECONDS, SPANS_MAX, Spill
from shared.clock import ManualClock
from shared.events import Budget, Usage, UsageBucket, UsageTotal

NAME = (1, "affiliate")
BUDGET = Budget(rate=10, burst=20)


def _other(sequence: int, total: int, level: float = 20.0, replica: str = "other") -> Usage:
    bucket = UsageBucket(level=level, rate=10, burst=20)
    told = UsageTotal(network_id=1, realm="affiliate", total=total, bucket=bucket)
    return Usage(replica=replica, incarnation="1", sequence=sequence, at=0.0, totals=(told,))


class _Gateway:
    """A limiter with its ledger, both on one clock."""

    def __init__(self, *, is_caught_up: bool = True) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger("own", "1", self.clock.monotonic())
        self.limiter = Limiter(self.clock, ledger=self.ledger)
        if is_caught_up:
            self.limiter.catch_up()

    def hear(self, usage: Usage, seconds_ago: float = 0.0) -> None:
        now = self.clock.monotonic()
        for heard in self.ledger.hear(usage, now):
            self.limiter.hear(heard, now - seconds_ago)

    def level(self) -> float:
        told = self.limiter.told(NAME)
        assert told is not None
        return told.level

    def take(self, times: int = 1) -> int:
        return sum(self.limiter.take(NAME, BUDGET).admitted for _ in range(times))


@given(
    st.lists(
        st.tuples(st.floats(0.0, 0.4), st.integers(0, 6), st.integers(0, 9), st.floats(0, 0.5)),
        max_size=30,
    )
)
def test_what_is_heard_late_counts_as_of_when_it_was_admitted(steps):
    """Against the same admissions in their true order; a full bucket's overflow is given back."""
    gateway, began, total = _Gateway(), None, 0
    admissions: list[tuple[float, int]] = []
    gateway.limiter.peek(NAME, BUDGET)
    began = gateway.clock.monotonic()
    for pause, own, others, ago in steps:
        gateway.clock.advance(pause)
        now = gateway.clock.monotonic()
        admissions.append((now, gateway.take(own)))
        made = max(now - ago, began)
        total += others
        gateway.hear(_other(0, total), seconds_ago=now - made)
        admissions.append((made, others))
    level, before = float(BUDGET.burst), began
    for moment, tokens in sorted(admissions):
        level = min(level + (moment - before) * BUDGET.rate, BUDGET.burst) - tokens
        before = moment
    level = min(level + (gateway.clock.monotonic() - before) * BUDGET.rate, BUDGET.burst)
    floor = -(BUDGET.burst + DEBT_SECONDS * BUDGET.rate)
    slack = BUDGET.rate * SPAN_MICROSECONDS / 1e6 * (1 + len(steps))
    if level > floor + slack:
        assert abs(gateway.level() - level) <= slack


def test_a_debt_is_repaid_before_anybody_is_admitted():
    """12 beyond the burst take 1.3 s of refill until the next token; the verdict says so."""
    gateway = _Gateway()
    assert gateway.take(20) == 20
    gateway.hear(_other(0, 12))
    verdict = gateway.limiter.peek(NAME, BUDGET)
    assert (verdict.remaining, verdict.reset_seconds) == (0, 2)
    gateway.clock.advance(1.25)
    assert not gateway.take()
    gateway.clock.advance(0.1)
    assert gateway.take()


def test_a_debt_has_a_floor():
    """A total that no budget of ours explains does not shut a network out for hours."""
    gateway = _Gateway()
    gateway.take()
    gateway.hear(_other(0, 10**9))
    assert gateway.level() == -(BUDGET.burst + DEBT_SECONDS * BUDGET.rate)


def test_a_lowered_budget_holds_at_once_and_is_not_paid_for_at_the_old_rate():
    """After a change from 1,000/s to 10/s the network waits for seconds, not for minutes."""
    gateway = _Gateway()
    large = Budget(rate=1_000, burst=1_000)
    for _ in range(500):
        gateway.limiter.take(NAME, large)
    assert gateway.limiter.peek(NAME, BUDGET).remaining == 20
    gateway.hear(_other(0, 5_000))
    assert gateway.limiter.take(NAME, BUDGET).reset_seconds <= 6


def test_a_gateway_that_starts_begins_at_the_level_that_the_others_told_last():
    """The lowest of them, with the refill since; what it hears later is charged as ever."""
    gateway = _Gateway(is_caught_up=False)
    gateway.hear(_other(50, 1_000, level=4.0), seconds_ago=1.0)
    gateway.hear(_other(49, 900, level=-20.0), seconds_ago=5.0)
    gateway.hear(_other(50, 7, level=-3.0, replica="third"), seconds_ago=0.5)
    gateway.limiter.catch_up()
    assert gateway.level() == 2.0
    gateway.hear(_other(51, 1_001, level=1.0))
    assert gateway.level() == 1.0


def test_a_bucket_that_only_others_use_is_kept_too():
    """Its first request here meets what they left of it."""
    gateway = _Gateway()
    gateway.hear(_other(0, 15))
    assert gateway.take(20) == 5


def test_an_hourly_total_is_no_buckets_business():
    """A record without a bucket leaves every bucket as it is."""
    gateway = _Gateway()
    gateway.limiter.hear(Heard((1, "affiliate"), "other", 5, None), gateway.clock.monotonic())
    assert gateway.limiter.told(NAME) is None


@given(st.lists(st.tuples(st.integers(1, 50_000), st.integers(1, 50_000)), max_size=300))
def test_what_ran_over_is_held_in_little_memory_and_given_back_once(pauses):
    """However many stretches; all of it from the beginning, and then nothing more."""
    spill, now, whole = Spill(), 0, 0.0
    for pause, lasts in pauses:
        began = now + pause
        now = began + lasts
        spill.add(began, now, float(lasts))
        whole += lasts
        assert len(spill) <= SPANS_MAX
    assert abs(spill.reclaim(0, 1e12) - whole) <= 1e-6 * max(whole, 1)
    assert spill.reclaim(0, 1e12) == 0


@given(st.integers(0, 1_000), st.floats(0, 2_000))
def test_only_what_ran_over_since_is_given_back(since, wanted):
    """Evenly spread over 1,000 microseconds: the part after the moment, the earliest first."""
    spill = Spill()
    spill.add(0, 1_000, 1_000.0)
    got = spill.reclaim(since, wanted)
    assert got == min(wanted, 1_000 - since)
    assert abs(spill.reclaim(since, 1e9) - (1_000 - since - got)) < 1
    assert abs(spill.reclaim(0, 1e9) - since) < 1
