"""Protects what gateways tell one another: when, and that no order or loss of it counts twice."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.ledger import (
    AGAIN_MAX,
    FIRST_SEQUENCES,
    IDLE_SECONDS,
    PEERS_MAX,
    SILENCE_SECONDS,
    TELL_SECONDS,
    TOTALS_MAX,
    Ledger,
)
from services.gateway.usage import run_together
from shared.events import Usage, UsageTotal

NAME = (1, "affiliate")
UNTOLD_MAX = 25


class _Told:
    """A ledger, and the time."""

    def __init__(self, replica: str = "own") -> None:
        self.now = 0.0
        self.ledger = Ledger(replica, "1", 0.0)

    def admit(self, times: int = 1, name: tuple[int, str] = NAME) -> None:
        for _ in range(times):
            self.ledger.admit(self.ledger.account(name), UNTOLD_MAX)

    def tell(self, seconds: float = 0.0) -> Usage | None:
        self.now += seconds
        return self.ledger.to_tell(self.now, self.now, lambda _: None)

    def totals(self, seconds: float = 0.0) -> dict[int, int] | None:
        usage = self.tell(seconds)
        return usage and {told.network_id: told.total for told in usage.totals}


def _usage(total: int, sequence: int = 0, replica: str = "other", incarnation: str = "1") -> Usage:
    told = UsageTotal(network_id=1, realm="affiliate", total=total)
    return Usage(
        replica=replica, incarnation=incarnation, sequence=sequence, at=0.0, totals=(told,)
    )


def test_a_change_is_told_after_50_ms_and_nothing_before():
    """The first record is a hello without totals."""
    told = _Told()
    assert told.totals() == {}
    told.admit(3)
    assert told.totals(TELL_SECONDS - 0.001) is None
    assert told.totals(0.001) == {1: 3}
    assert told.totals(TELL_SECONDS) is None


def test_much_that_is_untold_is_told_at_once():
    """All of it, in one record."""
    told = _Told()
    told.tell()
    told.admit(UNTOLD_MAX - 1)
    assert told.totals() is None
    told.admit(10)
    assert told.totals() == {1: UNTOLD_MAX + 9}
    told.admit()
    assert told.totals() is None


def test_an_idle_gateway_tells_its_totals_again_once_a_second():
    """All of them in turn, so that what was lost is made good."""
    told = _Told()
    told.tell()
    for network_id in range(1, 3 * AGAIN_MAX):
        told.admit(1, (network_id, "affiliate"))
    told.tell(TELL_SECONDS)
    assert told.totals(IDLE_SECONDS / 2) is None
    again: dict[int, int] = {}
    for _ in range(3):
        found = told.totals(1.001 * IDLE_SECONDS)
        assert found is not None
        assert len(found) <= AGAIN_MAX
        again |= found
    assert again == dict.fromkeys(range(1, 3 * AGAIN_MAX), 1)


def test_a_record_is_bounded_and_the_next_goes_on():
    """Ten thousand networks at once are told in turn."""
    told = _Told()
    told.tell()
    networks = 2 * TOTALS_MAX + 1
    for network_id in range(1, networks + 1):
        told.admit(1, (network_id, "affiliate"))
    sizes = [len(told.totals(TELL_SECONDS) or {}) for _ in range(3)]
    assert sizes == [TOTALS_MAX, TOTALS_MAX, 1]


@given(st.lists(st.integers(0, 100), max_size=30), st.randoms(use_true_random=False))
def test_lost_late_and_repeated_records_count_once(steps, random):
    """Whatever arrives of a growing total, and in whatever order: the most it ever was."""
    totals = [sum(steps[: index + 1]) for index in range(len(steps))]
    arrived = [
        (total, index) for index, total in enumerate(totals) for _ in range(random.randint(0, 2))
    ]
    random.shuffle(arrived)
    ledger = _Told().ledger
    news = sum(
        heard.admitted for total, index in arrived for heard in ledger.hear(_usage(total, index), 0)
    )
    assert news == max((total for total, _ in arrived), default=0)


def test_own_records_tell_only_that_somebody_is_there():
    """They come back, as those of all others; a predecessor of the same name is another."""
    ledger = _Told().ledger
    assert ledger.hear(_usage(5, replica="own"), 1.0) == []
    assert ledger.heard_at == 1.0
    assert [heard.admitted for heard in ledger.hear(_usage(5, 0, "own", "0"), 1.0)] == [5]


def test_what_was_admitted_before_the_first_record_that_is_known_is_of_unknown_age():
    """It is no news; what follows is."""
    ledger = _Told().ledger
    heard = [
        ledger.hear(_usage(total, sequence), 0.0)[0].admitted
        for total, sequence in ((900, FIRST_SEQUENCES), (903, FIRST_SEQUENCES + 1))
    ]
    assert heard == [0, 3]


def test_the_number_of_gateways_remembered_is_bounded():
    """Of endless restarts the latest are; none counts as there that is long gone."""
    ledger = _Told().ledger
    for number in range(PEERS_MAX + 10):
        ledger.hear(_usage(1, replica=f"gateway-{number}"), float(number))
    assert ledger.others_present() == 11
    assert ledger.hear(_usage(1, replica=f"gateway-{PEERS_MAX}"), 2_000.0)[0].admitted == 0


@given(st.lists(st.integers(0, 500), min_size=2, max_size=8))
def test_shares_are_as_the_admissions_were_and_add_up_to_one(admitted):
    """Everybody computes them alone, from what the log has confirmed."""
    gateways = [_Told(f"gateway-{number}") for number in range(len(admitted))]
    for gateway in gateways:
        hello = gateway.tell()
        for other in gateways:
            other.ledger.hear(hello, 0.0)
    for gateway, times in zip(gateways, admitted, strict=True):
        gateway.admit(times)
        usage = gateway.tell(IDLE_SECONDS)
        gateway.ledger.confirm(usage)
        for other in gateways:
            other.ledger.hear(usage, IDLE_SECONDS)
        gateway.admit(100)
    shares = [gateway.ledger.share(NAME) for gateway in gateways]
    assert abs(sum(shares) - 1) < 1e-9
    assert sorted(shares) == [share for _, share in sorted(zip(admitted, shares, strict=True))]
    if not any(admitted):
        assert shares == [1 / len(admitted)] * len(admitted)


def test_silence_is_when_nothing_is_heard_though_others_were_there():
    """Alone there is nothing to share."""
    ledger = _Told().ledger
    assert not ledger.is_silent(100.0)
    ledger.hear(_usage(1), 100.0)
    assert not ledger.is_silent(100.0 + SILENCE_SECONDS)
    assert ledger.is_silent(100.1 + SILENCE_SECONDS)
    ledger.hear(_usage(1, replica="own"), 103.0)
    assert not ledger.is_silent(103.0)


@given(st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=20))
def test_records_that_wait_run_together_without_losing_a_total(records):
    """Half as many tell the same in the end, and no later than the later of each pair."""
    waiting = []
    for index, networks in enumerate(records):
        totals = [UsageTotal(network_id=each, realm="r", total=index) for each in set(networks)]
        waiting.append(
            Usage(replica="a", incarnation="1", sequence=index, at=index, totals=tuple(totals))
        )
    together = run_together(waiting)
    assert len(together) == (len(waiting) + 1) // 2
    assert [usage.at for usage in together] == sorted(usage.at for usage in together)
    assert _last(together) == _last(waiting)
    assert together[-1].sequence == waiting[-1].sequence


def _last(records: list[Usage]) -> dict[int, int]:
    return {told.network_id: told.total for usage in records for told in usage.totals}
