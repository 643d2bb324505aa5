"""How exactly one budget holds over several gateways, at 1.6 times its rate for half a minute.

Real gateway processes on a Kafka of their own; a driver in its own process asks 800 times a second
whatever the answers, evenly or nine to one; the budget is 500/s with a burst of 500.

* `limiter.error_percent.*`: what all gateways admitted, compared with burst + rate x seconds until
  the last answer: with 2 and 3 gateways, even and skewed, one of 3 killed midway, Kafka stopped for
  10 s midway. What a stopped Kafka may cost is two seconds in which each goes by what it knew
  (`limiter.py`).
* `limiter.worst_second`: most admitted in any second once the burst was used up, in the first four.
* `limiter.records_per_request`: usage records that the gateways told, by requests offered: most.
* `limiter.p99_ms`: until an answer, in the first four; its baseline is the same without a limit.

`PORTICO_BENCH_ROUNDS` repeats everything.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable

from deploy.local.kafka import Kafka
from shared.events import Budget
from tests.backends import embedded_kafka
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.fleet_parts import UNLIMITED, Answers, Fleet, Surroundings, open_fleet

CASES = ("2_even", "2_skewed", "3_even", "3_skewed", "3_one_killed", "3_kafka_stopped")
NAMES = (
    *(f"limiter.error_percent.{case}" for case in CASES),
    "limiter.worst_second",
    "limiter.records_per_request",
    "limiter.p99_ms",
)
ROUNDS = int(os.environ.get("PORTICO_BENCH_ROUNDS", "1"))
SECONDS = 30
REQUESTS_PER_SECOND = 800
BUDGET = Budget(rate=500, burst=500)
BURST_IS_OVER = 3
"""The second from which on only the refill is there; exactly it is after 1.7 s."""
STOPPED_SECONDS = 10.0
EVEN = {2: (0.5, 0.5), 3: (1 / 3, 1 / 3, 1 / 3)}
SKEWED = {2: (0.9, 0.1), 3: (0.9, 0.05, 0.05)}

Samples = dict[str, list[float]]


async def run(context: Context) -> list[Figure]:
    """All figures."""
    samples: Samples = defaultdict(list)
    broker = embedded_kafka(context.folder / "limiter-kafka")
    home = context.folder / "limiter"
    home.mkdir()
    await broker.start()
    try:
        surroundings = Surroundings(broker.bootstrap, home)
        networks = iter(range(1, 1_000))
        for _ in range(ROUNDS):
            async with open_fleet(surroundings, 2) as fleet:
                await _undisturbed(fleet, networks, samples)
            async with open_fleet(surroundings, 3) as fleet:
                await _undisturbed(fleet, networks, samples)
                await _disturbed(fleet, networks, samples, broker)
    finally:
        await broker.stop()
    return _figures(samples)


async def _undisturbed(fleet: Fleet, networks, samples: Samples) -> None:
    """Even, skewed, and without a limit."""
    count = len(fleet.gateways)
    for name, weights in (("even", EVEN[count]), ("skewed", SKEWED[count])):
        answers = await _driven(fleet, next(networks), BUDGET, weights)
        _note(f"{count}_{name}", answers, samples)
        samples["limiter.worst_second"].append(max(answers.seconds()[BURST_IS_OVER:-1]))
        samples["limiter.records_per_request"].append(answers.records / len(answers.rows))
        samples["limiter.p99_ms"].append(answers.p99())
    answers = await _driven(fleet, next(networks), UNLIMITED, EVEN[count])
    assert answers.count(200) == len(answers.rows), "refused without a limit"
    samples["unlimited"].append(answers.p99())


async def _disturbed(fleet: Fleet, networks, samples: Samples, broker: Kafka) -> None:
    """Kafka stopped for a while; then one gateway killed for good."""

    async def without_kafka() -> None:
        await broker.stop()
        await asyncio.sleep(STOPPED_SECONDS)
        await broker.start()

    async def kill_one() -> None:
        fleet.gateways[-1].kill()

    for case, midway in (("3_kafka_stopped", without_kafka), ("3_one_killed", kill_one)):
        answers = await _driven(fleet, next(networks), BUDGET, EVEN[3], midway)
        _note(case, answers, samples)


async def _driven(
    fleet: Fleet,
    network_id: int,
    budget: Budget,
    weights: tuple[float, ...],
    midway: Callable[[], Awaitable[None]] | None = None,
) -> Answers:
    key = await fleet.partner(network_id, budget)
    return await fleet.drive(
        key, weights, SECONDS, requests_per_second=REQUESTS_PER_SECOND, midway=midway
    )


def _note(case: str, answers: Answers, samples: Samples) -> None:
    wanted = BUDGET.burst + BUDGET.rate * answers.lasted
    error = 100 * (answers.count(200) / wanted - 1)
    samples[f"limiter.error_percent.{case}"].append(error)
    print(
        f"  {case}: {answers.count(200)} of {len(answers.rows)} admitted, {error:+.2f} %, "
        f"in {answers.lasted:.2f} s, {answers.count(0)} unanswered, p99 {answers.p99():.1f} ms, by second {answers.seconds()}"
    )


def _figures(samples: Samples) -> list[Figure]:
    figures = [measured(name, "%", samples[name]) for name in NAMES[: len(CASES)]]
    return [
        *figures,
        measured(NAMES[-3], "requests", [max(samples[NAMES[-3]])], BUDGET.rate),
        measured(NAMES[-2], "records", [max(samples[NAMES[-2]])]),
        measured(NAMES[-1], "ms", samples[NAMES[-1]], samples["unlimited"]),
    ]
