"""Protects the hourly budget over several gateways, and across a restart."""

from services.gateway.sharing import SharedBudgets
from shared.clock import ManualClock

NAME = (1, "affiliate")
LIMIT = 100


class _World:
    """Gateways on one clock; every record stays in the log, in order."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.started = 0
        self.log: list[tuple[float, object]] = []
        self.gateways: list[SharedBudgets] = []

    def start(self) -> SharedBudgets:
        self.started += 1
        gateway = SharedBudgets(self.clock, "gateway", str(self.started))
        for made_at, usage in self.log:
            gateway.hear(usage, made_at)
        gateway.catch_up()
        self.gateways.append(gateway)
        return gateway

    def exchange(self) -> None:
        """Everybody tells what is due, and all hear it."""
        self.clock.advance(0.06)
        now = self.clock.monotonic()
        for gateway in self.gateways:
            usage = gateway.to_tell(0.0)
            if usage is not None:
                gateway.ledger.confirm(usage)
                self.log.append((now, usage))
                for other in self.gateways:
                    other.hear(usage, now)


def _take(gateway: SharedBudgets, times: int) -> int:
    return sum(gateway.hourly.take(NAME, LIMIT).admitted for _ in range(times))


def test_several_gateways_admit_the_limit_once():
    """What one admitted the others count."""
    world = _World()
    one, two = world.start(), world.start()
    assert _take(one, 70) == 70
    world.exchange()
    assert _take(two, 70) == 30
    world.exchange()
    assert _take(one, 1) == 0


def test_a_restart_gives_nobody_a_new_hour():
    """The successor reads what was admitted in the hour before, minute by minute."""
    world = _World()
    one = world.start()
    world.exchange()
    assert _take(one, 40) == 40
    world.exchange()
    world.clock.advance(1_800)
    assert _take(one, 40) == 40
    world.exchange()
    world.gateways.clear()
    two = world.start()
    assert _take(two, 40) == 20
    world.clock.advance(1_860)
    world.exchange()
    assert _take(two, 100) == 40


def test_while_nothing_is_heard_each_admits_its_share_of_what_is_left():
    """Together no more than the limit."""
    world = _World()
    one, two = world.start(), world.start()
    world.exchange()
    assert (_take(one, 20), _take(two, 20)) == (20, 20)
    world.exchange()
    world.clock.advance(3.0)
    assert (_take(one, 60), _take(two, 60)) == (30, 30)
    world.exchange()
    world.clock.advance(1.0)
    world.exchange()
    assert _take(one, 1) == 0


def test_bucket_and_hour_of_a_network_have_totals_of_their_own():
    """A granular report draws on both, and each is told."""
    world = _World()
    one = world.start()
    world.exchange()
    _take(one, 3)
    world.exchange()
    told = {
        (item.realm, item.total, item.bucket) for _, usage in world.log for item in usage.totals
    }
    assert told == {("affiliate/hour", 3, None)}
