"""Protects the budgets: exactly what rate and burst say, and answers that agree with it."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.hourly import HourlyLimiter
from services.gateway.limiter import Limiter, Verdict
from shared.clock import ManualClock
from shared.events import Budget

BUDGET = Budget(rate=5, burst=20)
NAME = (1, "affiliate")


def _limiter(**options) -> tuple[Limiter, ManualClock]:
    clock = ManualClock()
    return Limiter(clock, **options), clock


def test_a_full_bucket_gives_its_burst_and_then_its_rate():
    """20 at once, then one every 200 ms, exactly."""
    limiter, clock = _limiter()
    assert [limiter.take("n", BUDGET).admitted for _ in range(21)] == [True] * 20 + [False]
    clock.advance(0.199)
    assert not limiter.take("n", BUDGET).admitted
    clock.advance(0.001)
    assert limiter.take("n", BUDGET).admitted
    assert not limiter.take("n", BUDGET).admitted


def test_over_an_hour_of_overload_the_rate_is_met_exactly():
    """A refusal takes nothing, and refill loses nothing to rounding."""
    limiter, clock = _limiter()
    began = round(clock.monotonic() * 1_000_000)
    admitted = 0
    for _ in range(36_000):
        admitted += limiter.take("n", BUDGET).admitted
        admitted += limiter.take("n", BUDGET).admitted
        clock.advance(0.1)
    admitted += limiter.take("n", BUDGET).admitted
    elapsed = round(clock.monotonic() * 1_000_000) - began
    assert admitted == 20 + elapsed * 5 // 1_000_000


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(st.integers(0, 2_000_000), min_size=1, max_size=80),
)
def test_it_admits_what_exact_arithmetic_admits(rate, burst, pauses):
    """Against a bucket of fractions, at any moments, with the same remainder."""
    limiter, clock = _limiter()
    budget = Budget(rate=rate, burst=burst)
    level = Fraction(burst)
    before = round(clock.monotonic() * 1_000_000)
    for pause in pauses:
        clock.advance(pause / 1_000_000)
        now = round(clock.monotonic() * 1_000_000)
        level = min(Fraction(burst), level + Fraction(rate * (now - before), 1_000_000))
        before = now
        wanted = level >= 1
        level -= wanted
        verdict = limiter.take("n", budget)
        assert (verdict.admitted, verdict.remaining) == (wanted, int(level))


@given(st.lists(st.floats(0, 5), max_size=60))
def test_the_headers_tell_the_truth(pauses):
    """If they name a remainder, so many pass at once; if none, one passes after `t` seconds."""
    limiter, clock = _limiter()
    for pause in pauses:
        clock.advance(pause)
        limiter.take("n", BUDGET)
    verdict = limiter.peek("n", BUDGET)
    for _ in range(verdict.remaining):
        assert limiter.take("n", BUDGET).admitted
    empty = limiter.take("n", BUDGET)
    assert (empty.admitted, empty.remaining) == (False, 0)
    clock.advance(empty.reset_seconds)
    assert limiter.take("n", BUDGET).admitted


def test_a_verdict_names_quota_window_and_reset():
    """5/s, burst 20: full in 4 s; the next token in a second, rounded up."""
    limiter, clock = _limiter()
    first = limiter.take("n", BUDGET)
    assert first == Verdict(
        admitted=True, over=False, quota=20, remaining=19, reset_seconds=1, window_seconds=4
    )
    for _ in range(19):
        last = limiter.take("n", BUDGET)
    assert (last.remaining, last.reset_seconds) == (0, 1)
    clock.advance(2)
    assert limiter.peek("n", BUDGET).reset_seconds == 2
    assert limiter.peek("other", BUDGET).reset_seconds == 0
    slow = Budget(rate=0.1, burst=1)
    assert limiter.take("slow", slow).reset_seconds == 10


def test_peeking_takes_nothing():
    """A refusal for another reason costs the network no token."""
    limiter, _ = _limiter()
    assert [limiter.peek("n", BUDGET).remaining for _ in range(3)] == [20, 20, 20]


def test_budgets_do_not_touch_one_another():
    """One network's burst is not another's."""
    limiter, _ = _limiter()
    for _ in range(25):
        limiter.take((1, "affiliate"), BUDGET)
    assert limiter.take((2, "affiliate"), BUDGET).admitted
    assert not limiter.take((1, "affiliate"), BUDGET).admitted


def test_shadow_mode_says_what_it_would_have_done():
    """A new budget is watched before it refuses anybody."""
    limiter, _ = _limiter()
    verdicts = [limiter.take("n", BUDGET, shadow=True) for _ in range(21)]
    assert [verdict.admitted for verdict in verdicts] == [True] * 21
    assert [verdict.over for verdict in verdicts] == [False] * 20 + [True]


def test_a_smaller_budget_cuts_the_level_and_a_larger_one_fills_in_time():
    """A change of the budget counts from the next request."""
    limiter, clock = _limiter()
    assert limiter.take("n", BUDGET).remaining == 19
    assert limiter.take("n", Budget(rate=5, burst=3)).remaining == 2
    assert limiter.take("n", BUDGET).remaining == 1
    clock.advance(10)
    assert limiter.take("n", BUDGET).remaining == 19


def test_the_number_of_buckets_is_bounded():
    """Many addresses do not fill the memory; the one in use is kept."""
    limiter, _ = _limiter(buckets_max=10)
    limiter.take("kept", BUDGET)
    for number in range(100):
        limiter.take(number, BUDGET)
        limiter.take("kept", BUDGET)
    assert len(limiter) == 10
    assert not limiter.take("kept", BUDGET).admitted


@given(st.integers(1, 6), st.lists(st.sampled_from([0, 1, 30, 59, 60, 600, 3_599]), max_size=80))
def test_no_sixty_minutes_admit_more_than_the_limit(limit, pauses):
    """Counted by whole minutes, in every window that ends now; and what fits is admitted."""
    clock = ManualClock()
    hourly = HourlyLimiter(clock)
    admitted: list[int] = []
    for pause in pauses:
        clock.advance(pause)
        minute = int(clock.monotonic() // 60)
        within = sum(minute - 60 < past <= minute for past in admitted)
        verdict = hourly.take(NAME, limit)
        assert verdict.admitted == (within < limit)
        admitted += [minute] * verdict.admitted
        assert verdict.remaining == max(limit - within - verdict.admitted, 0)


@given(st.integers(1, 5), st.lists(st.integers(0, 1_500), max_size=40))
def test_an_hourly_refusal_says_exactly_when_there_is_room_again(limit, pauses):
    """A second earlier there is none."""
    clock = ManualClock()
    hourly = HourlyLimiter(clock)
    for pause in pauses:
        clock.advance(pause)
        hourly.take(NAME, limit)
    while (refused := hourly.take(NAME, limit)).admitted:
        pass
    clock.advance(refused.reset_seconds - 1)
    assert not hourly.take(NAME, limit).admitted
    clock.advance(1)
    assert hourly.take(NAME, limit).admitted


def test_an_hourly_count_in_shadow_refuses_nobody():
    """It says what it would have done, and how long until all is there again."""
    clock = ManualClock()
    hourly = HourlyLimiter(clock)
    verdicts = [hourly.take(NAME, 2, shadow=True) for _ in range(3)]
    assert [verdict.admitted for verdict in verdicts] == [True] * 3
    assert [verdict.over for verdict in verdicts] == [False, False, True]
    assert [verdict.remaining for verdict in verdicts] == [1, 0, 0]
    assert verdicts[0].reset_seconds == 3_600
