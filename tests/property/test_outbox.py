"""Protects the outbox over generated histories: transactions, crashes, hangs, takeovers, lost answers.

Postgres is real; Kafka is a model of the two facts relied on: opening a log fences the one before,
and a transaction happens as a whole or not at all, although its answer may get lost.
"""

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager

from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.clock import SystemClock
from shared.errors import FencedError, UnavailableError
from shared.outbox import SCHEMA_SQL, Relay, RelayMetrics
from shared.postgres import open_pool
from tests.outbox_parts import Outbox, Read, expire_lease, first_seen
from tests.soak import count

RELAYS = range(2)

relays = st.sampled_from(RELAYS)
change = st.tuples(
    st.just("change"),
    st.sampled_from("aab"),
    st.integers(1, 2),
    st.sampled_from([True, True, False]),
)
mishap = st.one_of(
    st.tuples(st.just("take_over"), relays),
    st.tuples(st.just("send"), relays, st.sampled_from(["lost", "unanswered"])),
    st.tuples(st.just("crash"), relays),
)
progress = st.tuples(st.just("go_on"), relays)
history = st.lists(
    st.sampled_from([change] * 3 + [progress] * 6 + [mishap]).flatmap(lambda kind: kind),
    min_size=12,
    max_size=60,
)
HANG = [
    ("change", "a", 1, True),
    *[("go_on", 0)] * 2,
    ("take_over", 1),
    ("change", "a", 1, True),
    *[("go_on", 1)] * 3,
    *[("go_on", 0)] * 2,
]
"""The worst case by hand: relay 0 has read, relay 1 publishes what came later, relay 0 sends."""


class ModelKafka:
    """Fences by epoch, appends whole transactions."""

    def __init__(self) -> None:
        self.epoch = 0
        self.records: list[Read] = []


class ModelLog:
    """A log that waits at two gates, so that a history can put anything in between."""

    def __init__(self, kafka: ModelKafka) -> None:
        kafka.epoch += 1
        self._kafka = kafka
        self._epoch = kafka.epoch
        self.outcome: asyncio.Future[str] = asyncio.Future()
        self.returns: asyncio.Future[None] = asyncio.Future()

    async def publish(self, records) -> None:
        outcome = await self.outcome
        if self._epoch != self._kafka.epoch:
            raise FencedError
        if outcome == "lost":
            raise UnavailableError
        for record in records:
            ce_id = dict(record.headers)["ce_id"].decode()
            self._kafka.records.append(Read(record.key, record.value, ce_id))
        if outcome == "unanswered":
            raise UnavailableError
        await self.returns


class Actor:
    """One relay's process, driven step by step."""

    def __init__(self, outbox: Outbox, kafka: ModelKafka, name: str) -> None:
        self._outbox = outbox
        self._kafka = kafka
        self._name = name
        self._log: ModelLog | None = None
        self._turn: asyncio.Task | None = None
        self._relay = self._new_relay()

    def _new_relay(self) -> Relay:
        metrics = RelayMetrics(CollectorRegistry(), "test")
        settings = self._outbox.settings(self._name)
        return Relay(self._outbox.pool, settings, _unused, metrics, SystemClock())

    async def go_on(self) -> None:
        """Whatever this relay does next if nothing happens to it."""
        if self._log is None:
            await self.take_over()
        elif self._turn is None:
            await self.read()
        elif not self._log.outcome.done():
            await self.send("arrives")
        else:
            await self.mark()

    async def take_over(self) -> None:
        """Start a term, as after a hang of whoever held the lease."""
        await self.crash()
        await expire_lease(self._outbox.pool)
        await self._relay._lease.take()
        self._log = ModelLog(self._kafka)
        await self._relay._lease.renew()

    async def read(self) -> None:
        if self._log and self._turn is None and await self._outbox.unpublished():
            self._turn = asyncio.create_task(self._relay._turn(self._log))
            await self._advance()

    async def send(self, outcome: str) -> None:
        if self._log and self._turn and not self._log.outcome.done():
            self._log.outcome.set_result(outcome)
            await self._advance()

    async def mark(self) -> None:
        if self._log and self._turn and self._log.outcome.done():
            self._log.returns.set_result(None)
            await self._advance(to_end=True)

    async def crash(self) -> None:
        if self._turn:
            self._turn.cancel()
            await asyncio.wait([self._turn])
        self._relay, self._log, self._turn = self._new_relay(), None, None

    async def _advance(self, *, to_end: bool = False) -> None:
        """Let the turn go on until it waits at a gate or ends; after a failure the log is gone."""
        await asyncio.wait([self._turn], timeout=None if to_end else 0.003)
        if not self._turn.done():
            return
        with contextlib.suppress(FencedError, UnavailableError):
            self._turn.result()
            self._turn = None
            self._log.outcome, self._log.returns = asyncio.Future(), asyncio.Future()
            return
        await self.crash()


@asynccontextmanager
async def _unused():
    """The history gives the relay its log turn by turn; opening one would go around it."""
    raise AssertionError("this relay opens no log of its own")
    yield


async def play(outbox: Outbox, steps) -> None:
    """Play one history, let a last relay finish, and compare with what was committed."""
    await outbox.pool.execute("TRUNCATE outbox RESTART IDENTITY")
    await outbox.pool.execute("UPDATE outbox_lease SET renewed_at = '-infinity'")
    kafka = ModelKafka()
    actors = [Actor(outbox, kafka, f"relay {number}") for number in RELAYS]
    for step in steps:
        await take_step(outbox, actors, *step)
    last = actors[0]
    await last.take_over()
    while await outbox.unpublished():
        await last.go_on()
    for actor in actors:
        await actor.crash()
    committed = await outbox.ids_appended()
    assert first_seen(kafka.records) == committed
    newest = {record.key: record.ce_id for record in kafka.records}
    assert newest == {key: ids[-1] for key, ids in committed.items()}


async def take_step(outbox: Outbox, actors: list[Actor], kind: str, *arguments) -> None:
    if kind != "change":
        number, *rest = arguments
        await getattr(actors[number], kind)(*rest)
        return
    key, number, is_kept = arguments
    async with outbox.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await outbox.append_within(connection, key, *[b"x"] * number)
        await (transaction.commit() if is_kept else transaction.rollback())


def test_nothing_is_lost_invented_or_reordered_whatever_happens(database_url, schema):
    """What a reader that drops repeats sees equals what was committed, and the last is the last."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def opened() -> Outbox:
            pool = await stack.enter_async_context(
                open_pool(database_url, schema=schema, application="test")
            )
            await pool.execute(SCHEMA_SQL)
            return Outbox("", database_url, schema, "model", pool)

        outbox = runner.run(opened())

        @settings(max_examples=count(100, 3_000))
        @example(HANG)
        @given(history)
        def check(steps) -> None:
            runner.run(play(outbox, steps))

        check()
        runner.run(stack.aclose())
