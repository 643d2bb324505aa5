"""How exactly one budget holds over several gateways, at 1.6 times its rate for half a minute.

Real gateway processes on a Kafka of their own; a driver in its own process asks 800 times a second
whatever the answers, evenly or nine to one; the budget is 500/s with a burst of 500.

* `limiter.error_percent.*`: what all gateways admitted, compared with burst + rate x seconds until
  the last answer: with 2 and 3 gateways, even and skewed, one of 3 killed midway, Kafka stopped for
  10 s midway. What a stopped Kafka may cost is two seconds in which each goes by what it knew
  (`limiter.py`). Errors have either sign, so their range is printed: a spread by their median says
  nothing.
* `limiter.worst_second`: most admitted in any second once the burst was used up, in the first four.
* `limiter.records_per_request`: usage records that the gateways told, by requests offered: most, in
  the first four.
* `limiter.p99_ms`: until an answer, with 3 gateways, even; its baseline is the same without a limit.

A prefix that names one figure (`ONLY=limiter.error_percent.3_even`) measures only what that figure
needs. Everything is done `PORTICO_BENCH_ROUNDS` times, 5 unless given: some 20 minutes.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from deploy.local.kafka import Kafka
from shared.events import Budget
from tests.backends import embedded_kafka
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.fleet_parts import UNLIMITED, Answers, Fleet, Surroundings, open_fleet

ROUNDS = int(os.environ.get("PORTICO_BENCH_ROUNDS", "5"))
SECONDS = 30
REQUESTS_PER_SECOND = 800
BUDGET = Budget(rate=500, burst=500)
BURST_IS_OVER = 3
"""The second from which on only the refill is there; exactly it is after 1.7 s."""
STOPPED_SECONDS = 10.0
EVEN = {2: (0.5, 0.5), 3: (1 / 3, 1 / 3, 1 / 3)}
SKEWED = {2: (0.9, 0.1), 3: (0.9, 0.05, 0.05)}


async def _stop_kafka(_fleet: Fleet, broker: Kafka) -> None:
    await broker.stop()
    await asyncio.sleep(STOPPED_SECONDS)
    await broker.start()


async def _kill_one(fleet: Fleet, _broker: Kafka) -> None:
    fleet.gateways[-1].kill()


@dataclass(frozen=True)
class Case:
    """What is offered to how many gateways, and what happens in the middle of it."""

    weights: tuple[float, ...]
    budget: Budget = BUDGET
    midway: Callable[[Fleet, Kafka], Awaitable[None]] | None = None


UNDISTURBED = {
    "2_even": Case(EVEN[2]),
    "2_skewed": Case(SKEWED[2]),
    "3_even": Case(EVEN[3]),
    "3_skewed": Case(SKEWED[3]),
}
DISTURBED = {
    "3_one_killed": Case(EVEN[3], midway=_kill_one),
    "3_kafka_stopped": Case(EVEN[3], midway=_stop_kafka),
}
FREE = {"3_unlimited": Case(EVEN[3], UNLIMITED)}
LIMITED = ("3_even",)
CASES = UNDISTURBED | FREE | DISTURBED
ERRORS = {f"limiter.error_percent.{case}": (case,) for case in UNDISTURBED | DISTURBED}
NEEDS: Mapping[str, Collection[str]] = ERRORS | {
    "limiter.worst_second": UNDISTURBED,
    "limiter.records_per_request": UNDISTURBED,
    "limiter.p99_ms": (*LIMITED, *FREE),
}
"""The figures, and the cases that each is made of."""
NAMES = tuple(NEEDS)


@dataclass
class Samples:
    """What the rounds found, by case."""

    answers: dict[str, list[Answers]]

    def each(self, cases: Collection[str], of: Callable[[Answers], float]) -> list[float]:
        """A value of every round of these cases."""
        return [of(answers) for case in cases for answers in self.answers[case]]


async def run(context: Context) -> list[Figure]:
    """The figures that were asked for."""
    names = [name for name in NAMES if name.startswith(context.prefix)]
    cases = [case for case in CASES if any(case in NEEDS[name] for name in names)]
    samples = Samples(defaultdict(list))
    broker = embedded_kafka(context.folder / "limiter-kafka")
    home = context.folder / "limiter"
    home.mkdir()
    await broker.start()
    try:
        surroundings = Surroundings(broker.bootstrap, home)
        for turn in range(ROUNDS):
            for network_id, case in enumerate(cases, turn * len(cases) + 1):
                samples.answers[case].append(await play(case, surroundings, broker, network_id))
    finally:
        await broker.stop()
    return figures(names, samples)


async def play(case: str, surroundings: Surroundings, broker: Kafka, network_id: int) -> Answers:
    """One round of a case, with gateways of its own and a network that nobody has used."""
    wanted = CASES[case]
    async with open_fleet(surroundings, len(wanted.weights)) as fleet:
        key = await fleet.partner(network_id, wanted.budget)
        midway = None if wanted.midway is None else lambda: wanted.midway(fleet, broker)
        answers = await fleet.drive(
            key, wanted.weights, SECONDS, requests_per_second=REQUESTS_PER_SECOND, midway=midway
        )
    if case in FREE:
        assert answers.count(200) == len(answers.rows), "refused without a limit"
    error = "" if case in FREE else f"{_error(answers):+.2f} %, "
    print(
        f"  {case}: {answers.count(200)} of {len(answers.rows)} admitted, {error}"
        f"in {answers.lasted:.2f} s, {answers.count(0)} unanswered, "
        f"p99 {answers.p99():.1f} ms, by second {answers.seconds()}",
        flush=True,
    )
    return answers


def figures(names: Collection[str], samples: Samples) -> list[Figure]:
    """The figures of that name."""
    for name in [name for name in names if name in ERRORS]:
        errors = samples.each(ERRORS[name], _error)
        print(f"  {name}: {min(errors):+.2f} to {max(errors):+.2f} %")
    return [_figure(name, samples) for name in names]


def _figure(name: str, samples: Samples) -> Figure:
    if name in ERRORS:
        return measured(name, "%", samples.each(ERRORS[name], _error))
    if name == "limiter.worst_second":
        worst = samples.each(UNDISTURBED, _worst_second)
        return measured(name, "requests", [max(worst)], BUDGET.rate)
    if name == "limiter.records_per_request":
        return measured(name, "records", [max(samples.each(UNDISTURBED, _records))])
    limited, free = samples.each(LIMITED, Answers.p99), samples.each(FREE, Answers.p99)
    return measured(name, "ms", limited, free)


def _error(answers: Answers) -> float:
    wanted = BUDGET.burst + BUDGET.rate * answers.lasted
    return 100 * (answers.count(200) / wanted - 1)


def _worst_second(answers: Answers) -> float:
    return max(answers.seconds()[BURST_IS_OVER:-1])


def _records(answers: Answers) -> float:
    return answers.records / len(answers.rows)
