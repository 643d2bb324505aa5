"""A simulated cluster of gateways on a log: one network, one bucket, and the exact one beside it.

Time is simulated; every replica has monotonic clock of its own, the log's clock is none of them. A
record takes its time to the log, from there to each reader, and its confirmation back; it may be
lost or come twice on its way to a reader. What all replicas admit is compared at every moment with
what one exact bucket holds, and in the end with what it would have admitted of the same requests.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from services.gateway.ledger import Ledger
from services.gateway.limiter import Limiter
from services.gateway.log_clock import LogClock
from services.gateway.sharing import SharedBudgets
from shared.events import Budget, Usage

NAME = (1, "affiliate")
TICK_SECONDS = 0.01


@dataclass
class Moment:
    """The simulation's time, read with an offset by everybody."""

    now: float = 0.0


@dataclass(frozen=True)
class OwnClock:
    """A clock that runs as the others do, but shows something else."""

    moment: Moment
    offset: float

    def monotonic(self) -> float:
        return self.moment.now + self.offset

    time = monotonic

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits in a simulation")


@dataclass(frozen=True)
class Network:
    """What happens to records; delays in seconds, each drawn anew between two bounds.

    Attributes:
        produce: until the log has the record.
        confirm: from there until its sender knows.
        fetch: from there until a reader has it.
        lost: how likely a record is lost to a reader.
        repeated: how likely it comes twice.
        is_ordered: whether what one sends comes in the order in which it was sent, as on Kafka.
    """

    produce: tuple[float, float] = (0.001, 0.004)
    confirm: tuple[float, float] = (0.001, 0.004)
    fetch: tuple[float, float] = (0.001, 0.006)
    lost: float = 0.0
    repeated: float = 0.0
    is_ordered: bool = True

    @property
    def longest(self) -> float:
        """From sender to reader."""
        return self.produce[1] + self.fetch[1]


@dataclass
class Node:
    """One gateway.

    Attributes:
        known: how many admissions of others it has heard of.
    """

    number: int
    clock: OwnClock
    budgets: SharedBudgets
    log_clock: LogClock = field(default_factory=LogClock)
    is_alive: bool = True
    is_ready: bool = True
    admitted: int = 0
    known: int = 0


@dataclass(frozen=True)
class Phase:
    """Requests a second at each replica, for so long."""

    seconds: float
    rates: tuple[float, ...]


class Cluster:
    """A run of the simulation.

    Args:
        replicas: how many gateways.
        budget: of the network.
        network: what happens to records.
        seed: of all that is left to chance.

    Attributes:
        admitted: by all gateways together.
        exact: by the exact bucket.
        debt: of an exact bucket that all admissions are charged to, at its deepest: so many more
            than its burst and its refill were admitted in some stretch of time.
        unheard: most that an admitting gateway had not heard of at that moment.
        early: most seconds by which others' admissions were placed before they were made.
    """

    def __init__(self, replicas: int, budget: Budget, network: Network, seed: int) -> None:
        self.budget = budget
        self.network = network
        self.moment = Moment()
        self.admitted = self.exact = self.unheard = 0
        self.early = self.debt = 0.0
        self._level, self._level_at = float(budget.burst), 0.0
        self.records = 0
        self.offered = 0
        self.history: list[tuple[float, int, int]] = []
        self.is_silent = False
        self._held: list[Callable[[], None]] = []
        self._arrived: dict[tuple[object, ...], float] = {}
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._log: list[Usage] = []
        self._log_offset = self._random.uniform(-5, 5)
        self._one = Limiter(OwnClock(self.moment, 0.0))
        self.nodes: list[Node] = []
        for _ in range(replicas):
            self.join()
        self._run_until(1.0)
        self.began = self.moment.now

    # --- gateways ---------------------------------------------------------------------------------

    def join(self) -> Node:
        """Another gateway starts: it says hello, reads the log, and is ready."""
        number = len(self.nodes)
        clock = OwnClock(self.moment, self._random.uniform(0, 1e6))
        node = Node(number, clock, SharedBudgets(clock, f"gateway-{number}", "1"))
        node.is_ready = False
        self.nodes.append(node)
        self._send(node)
        self._after(self._delay(self.network.produce) * 2 + 0.01, lambda: self._load(node))
        return node

    def _load(self, node: Node) -> None:
        if not node.is_alive:
            return
        if node.log_clock.offset is None:
            self._after(0.01, lambda: self._load(node))
            return
        for usage in self._random.sample(self._log, len(self._log)):
            node.budgets.hear(usage, node.log_clock.of_ours(usage.at))
        node.budgets.catch_up()
        node.is_ready = True
        self._tick(node)

    def kill(self, node: Node) -> None:
        """A gateway is no more, with what it had not told."""
        node.is_alive = node.is_ready = False

    # --- records ----------------------------------------------------------------------------------

    def _tick(self, node: Node) -> None:
        if node.is_alive:
            self._send(node)
            self._after(TICK_SECONDS, lambda: self._tick(node))

    def _send(self, node: Node) -> None:
        """Send the record that is due, if one is."""
        usage = node.budgets.to_tell(node.log_clock.of_log(node.clock.monotonic()))
        if usage is None:
            return
        self.records += 1
        made_at, sent_at = self.moment.now, node.clock.monotonic()
        self._carried(
            ("produce", node.number),
            self._delay(self.network.produce),
            lambda: self._append(node, usage, made_at, sent_at),
        )

    def _append(self, node: Node, usage: Usage, made_at: float, sent_at: float) -> None:
        stamped = self.moment.now + self._log_offset
        self._log.append(usage)
        self._carried(
            ("confirm", node.number),
            self._delay(self.network.confirm),
            lambda: self._confirm(node, usage, sent_at, stamped),
        )
        for reader in self.nodes:
            if reader.is_alive:
                self._fetch(node, reader, usage, made_at)

    def _confirm(self, node: Node, usage: Usage, sent_at: float, stamped: float) -> None:
        node.log_clock.sample(sent_at, stamped, node.clock.monotonic())
        node.budgets.ledger.confirm(usage)

    def _fetch(self, node: Node, reader: Node, usage: Usage, made_at: float) -> None:
        times = 0 if self._happens(self.network.lost) else 1
        times += self._happens(self.network.repeated)
        for _ in range(times):
            self._carried(
                ("fetch", node.number, reader.number),
                self._delay(self.network.fetch),
                lambda: self._hear(reader, usage, made_at),
            )

    def _hear(self, reader: Node, usage: Usage, made_at: float) -> None:
        if not reader.is_ready:
            return
        placed = reader.log_clock.of_ours(usage.at)
        if usage.totals:
            self.early = max(self.early, made_at - (placed - reader.clock.offset))
        before = self._heard(reader.budgets.ledger)
        reader.budgets.hear(usage, placed)
        reader.known += self._heard(reader.budgets.ledger) - before

    def _heard(self, ledger: Ledger) -> int:
        return ledger._others.get(NAME, 0)

    # --- requests ---------------------------------------------------------------------------------

    def play(self, *phases: Phase) -> None:
        """Offer requests at random moments, so many a second on average."""
        for phase in phases:
            end = self.moment.now + phase.seconds
            for number, rate in enumerate(phase.rates):
                if rate:
                    self._offer_until(end, number, rate)
            self._run_until(end)

    def burst(self, number: int, count: int) -> None:
        """So many requests at once."""
        for _ in range(count):
            self._request(number)

    def _offer_until(self, end: float, number: int, rate: float) -> None:
        moment = self.moment.now + self._random.expovariate(rate)

        def arrive() -> None:
            self._request(number)
            self._offer_until(end, number, rate)

        if moment < end:
            self._at(moment, arrive)

    def _request(self, number: int) -> None:
        """A request at a gateway, or the next one that is there."""
        node = self._open(number)
        self.offered += 1
        self.exact += self._one.take(NAME, self.budget).admitted
        if node is not None and node.budgets.buckets.take(NAME, self.budget).admitted:
            self.admitted += 1
            node.admitted += 1
            self.unheard = max(self.unheard, self.admitted - node.admitted - node.known)
            self._charge()
        self.history.append((self.moment.now - self.began, self.admitted, self.exact))

    def _charge(self) -> None:
        gained = (self.moment.now - self._level_at) * self.budget.rate
        self._level = min(self._level + gained, self.budget.burst) - 1
        self._level_at = self.moment.now
        self.debt = max(self.debt, -self._level)

    def _open(self, number: int) -> Node | None:
        order = self.nodes[number:] + self.nodes[:number]
        return next((node for node in order if node.is_ready), None)

    def between(self, began: float, ended: float) -> tuple[int, int]:
        """Admissions, ours and exact, in a stretch of time since the first request could come."""
        inside = [item for item in self.history if began <= item[0] <= ended]
        return inside[-1][1] - inside[0][1], inside[-1][2] - inside[0][2]

    def excess(self, began: float, ended: float) -> list[int]:
        """How many more than the exact bucket all had admitted, at each request of a stretch."""
        return [ours - exact for at, ours, exact in self.history if began <= at <= ended]

    # --- time -------------------------------------------------------------------------------------

    def silence(self, *phases: Phase) -> None:
        """Play while nothing gets anywhere; then all of it does."""
        self.is_silent = True
        self.play(*phases)
        self.is_silent = False
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    def _carried(self, way: tuple[object, ...], seconds: float, then: Callable[[], None]) -> None:
        """`then`, once a record has come its way."""

        def arrive() -> None:
            if self.is_silent:
                self._held.append(then)
            else:
                then()

        moment = self.moment.now + seconds
        if self.network.is_ordered:
            moment = self._arrived[way] = max(moment, self._arrived.get(way, 0.0))
        self._at(moment, arrive)

    def _run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self.moment.now, _, event = heapq.heappop(self._events)
            event()
        self.moment.now = end

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        self._at(self.moment.now + seconds, event)

    def _at(self, moment: float, event: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (moment, self._sequence, event))

    def _delay(self, bounds: tuple[float, float]) -> float:
        return self._random.uniform(*bounds)

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance
