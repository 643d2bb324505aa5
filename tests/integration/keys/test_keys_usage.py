"""Protects last use in the database: exact through repeats and crashes, and in nobody's way."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from importlib.resources import files

import asyncpg
import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from services.keys.usage import domain, store
from services.keys.usage.domain import DoorEvent, Sighting, Usage, Watched
from services.keys.usage.projection import LastUse, usage_writer
from services.keys.usage.store import Usages
from shared import events, topics
from shared.batches import Item
from shared.clock import ManualClock, SystemClock
from shared.errors import InvalidError
from shared.kafka import Record, TopicPartition, open_producer
from shared.postgres import Connection, Pool, migrate, open_pool
from shared.projection import PostgresSink, Projection, ProjectionMetrics
from tests import projection_parts, usage_parts
from tests.keys_parts import Platform, network, partner, running, staff, until
from tests.soak import count
from tests.usage_parts import DAY, NETWORK, NOON, counted, item, opened, recount, summary
from tests.waiting import until as eventually

Unique = Callable[[str], str]
ROUNDS = count(25, 300)


@pytest.fixture
async def pool(database_url: str, schema: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema=schema, application="test") as pool:
        await migrate(pool, "services.keys.migrations")
        yield pool


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON + 60.0)


async def add_key(pool: Pool, key_id: str, network_id: int = NETWORK, **more: object) -> None:
    """A key as the table has it, with `more` of its columns."""
    columns = {
        "key_id": key_id,
        "network_id": network_id,
        "network_affiliate_id": 7,
        "integration": key_id,
        "digest": f"digest of {key_id}",
        "masked": "aff_…abcd",
        "sealed": b"sealed",
        "status": "active",
        "allowlist": [],
        "version": 1,
        "created_at": float(NOON - DAY),
        "created_by": "user-7",
    } | more
    places = ", ".join(f"${n + 1}" for n in range(len(columns)))
    await pool.execute(
        f"INSERT INTO keys ({', '.join(columns)}) VALUES ({places})", *columns.values()
    )


class Partition:
    """One partition of a topic as its owner applies it; `crash` breaks a batch off before the commit."""

    def __init__(self, pool: Pool, clock: ManualClock, topic: str = "gateway.access.v1") -> None:
        self._pool = pool
        self._clock = clock
        self._where = TopicPartition(topic, 0)
        self._sink: PostgresSink[DoorEvent] | None = None
        self._log: list[Item[DoorEvent]] = []

    def send(self, event: DoorEvent, event_id: str | None = None) -> None:
        """Append a record; one of the same id is the same event sent again."""
        headers = tuple(usage_parts.headers(event, event_id))
        self._log.append(item(event, len(self._log), headers=headers))

    async def apply(self, until: int | None = None, *, crash: bool = False) -> None:
        """Apply what is not applied yet, up to offset `until`."""
        sink = self._sink = self._sink or self._new()
        start = (await sink.starts([self._where]))[self._where].offset or 0
        items = self._log[start:until]
        if not items:
            return
        if crash:
            broken = self._new(broken=True)
            await broken.starts([self._where])
            with pytest.raises(ZeroDivisionError):
                await broken.write(self._where, items, start + len(items))
        else:
            await sink.write(self._where, items, start + len(items))

    def _new(self, *, broken: bool = False) -> PostgresSink[DoorEvent]:
        write = usage_writer(self._clock)

        async def broken_write(connection: Connection, items: Sequence[Item[DoorEvent]]) -> None:
            await write(connection, items)
            raise ZeroDivisionError

        return PostgresSink(self._pool, "usage", broken_write if broken else write)


def seen_of(sent: Sequence[DoorEvent]) -> dict[str, list[Sighting]]:
    """What `sent` tells of each key."""
    found = defaultdict(list)
    for event in sent:
        for one in domain.sightings(event):
            found[one.key_id].append(one)
    return found


async def known(pool: Pool, key_id: str, network_id: int = NETWORK) -> Usage:
    return await Usages(pool).usage(network_id, key_id)


# --- exactly once ---------------------------------------------------------------------------------


def a_summary(chance: random.Random, keys: Sequence[str]) -> DoorEvent:
    second = NOON - chance.choice([0, 1, 2, 30, 3_600, DAY, 91 * DAY])
    return summary(
        *(
            counted(
                chance.choice(keys),
                f"10.0.{chance.randrange(14)}.1",
                chance.randrange(1, 9),
                refusal=chance.choice(["", "", "", "revoked"]),
            )
            for _ in range(chance.randrange(1, 5))
        ),
        second=second,
    )


async def test_whatever_is_repeated_or_broken_off_the_sums_are_those_of_each_event_once(
    pool, clock
):
    """Batches of any size, crashes before the commit, events sent again: a recount agrees."""
    chance = random.Random(7)
    keys = ["k0", "k1", "k2"]
    for key_id in keys:
        await add_key(pool, key_id)
    partition = Partition(pool, clock)
    sent: dict[str, DoorEvent] = {}
    for number in range(ROUNDS):
        for _ in range(chance.randrange(1, 6)):
            name = f"{number}-{chance.randrange(3)}"
            if sent and chance.random() < 0.3:
                name = chance.choice(list(sent))
            event = sent.setdefault(name, a_summary(chance, keys))
            partition.send(event, name)
        await partition.apply(crash=chance.random() < 0.3)
        clock.advance(chance.choice([1.0, 20.0]))
    await partition.apply()
    now = clock.time()
    for key_id, seen in seen_of(list(sent.values())).items():
        assert await known(pool, key_id) == recount(seen, now), key_id


async def test_partitions_of_both_topics_write_the_same_keys_at_once_without_deadlock(pool, clock):
    """A partner's requests and streams are told in two topics; nothing is lost between them."""
    keys = [f"k{number}" for number in range(30)]
    for key_id in keys:
        await add_key(pool, key_id)
    chance = random.Random(3)
    access, sessions = Partition(pool, clock), Partition(pool, clock, "firehose.sessions.v1")
    sent: list[DoorEvent] = []
    for _ in range(count(10, 100)):
        for partition, make in ((access, a_summary), (sessions, a_session)):
            for _ in range(20):
                sent.append(make(chance, keys))
                partition.send(sent[-1])
        async with asyncio.timeout(30), asyncio.TaskGroup() as both:
            both.create_task(access.apply())
            both.create_task(sessions.apply())
    for key_id, seen in seen_of(sent).items():
        assert await known(pool, key_id) == recount(seen, clock.time())


def a_session(chance: random.Random, keys: Sequence[str]) -> DoorEvent:
    kind = chance.choice([usage_parts.opened, usage_parts.closed])
    return kind(chance.choice(keys), NOON - chance.randrange(90) * 0.5, client_ip="10.0.3.9")


async def test_a_record_sent_again_by_itself_counts_once(pool, clock):
    """As after a producer's time-out: the batches before and behind it are of other moments."""
    await add_key(pool, "k")
    partition = Partition(pool, clock)
    for second, event_id in [(NOON, "one"), (NOON + 9, "two"), (NOON, "one"), (NOON + 9, "two")]:
        partition.send(summary(counted("k", count=3), second=second), event_id)
        await partition.apply()
    assert (await known(pool, "k")).count_on_day == 6


async def test_a_record_sent_again_after_the_time_of_repeats_never_moves_the_last_use(pool, clock):
    """That is where counting once ends: a day's count may have it twice, the moment stays."""
    await add_key(pool, "k")
    partition = Partition(pool, clock)
    partition.send(summary(counted("k", count=3)), "one")
    await partition.apply()
    await Usages(pool).forget_batches(clock.time() + 1)
    partition.send(summary(counted("k", count=3)), "one")
    await partition.apply()
    usage = await known(pool, "k")
    assert (usage.last.at, usage.count_on_day) == (NOON, 6)


# --- whose ----------------------------------------------------------------------------------------


async def test_unknown_keys_and_keys_of_another_network_change_nothing(pool, clock):
    """Of a batch, only keys that the network has are written."""
    await add_key(pool, "ours")
    await add_key(pool, "theirs", network_id=NETWORK + 1)
    partition = Partition(pool, clock)
    partition.send(summary(counted("ours"), counted("theirs"), counted("unknown")))
    await partition.apply()
    assert (await known(pool, "ours")).last.at == NOON
    assert await known(pool, "theirs", NETWORK + 1) == Usage()
    assert await known(pool, "ours", NETWORK + 1) == Usage(), "read by another network"
    assert await pool.fetchval("SELECT count(*) FROM key_usage") == 2


async def test_every_key_has_its_row_from_the_start_also_those_from_before(database_url, schema):
    """The table of keys joins: a key without a row would be missing from it."""
    async with open_pool(database_url, schema=schema, application="test") as pool:
        first = files("services.keys.migrations").joinpath("0001_keys.sql").read_text()
        await pool.execute(first)
        await pool.execute(
            "CREATE TABLE schema_migrations (name text PRIMARY KEY, applied_at timestamptz"
            " NOT NULL DEFAULT now()); INSERT INTO schema_migrations VALUES ('0001_keys.sql')"
        )
        await add_key(pool, "old")
        await migrate(pool, "services.keys.migrations")
        await add_key(pool, "new")
        rows = await pool.fetch("SELECT key_id, last_used_at, day FROM key_usage ORDER BY key_id")
        assert [tuple(row) for row in rows] == [("new", 0.0, 0), ("old", 0.0, 0)]


# --- in nobody's way ------------------------------------------------------------------------------


async def test_a_batch_and_a_locked_key_do_not_wait_for_one_another(pool, clock):
    """A revocation holds the key's row until its commit; counting goes on, and the other way round."""
    await add_key(pool, "k")
    partition = Partition(pool, clock)
    partition.send(summary(counted("k")))
    async with asyncio.timeout(30), pool.acquire() as revoking, revoking.transaction():
        await revoking.execute("SELECT FROM keys WHERE key_id = 'k' FOR UPDATE")
        await partition.apply()
    write = usage_writer(clock)
    async with asyncio.timeout(30), pool.acquire() as counting, counting.transaction():
        await write(counting, [item(summary(counted("k")))])
        assert await pool.execute("UPDATE keys SET status = 'revoked', ended_at = 1") == "UPDATE 1"


async def test_batches_lock_keys_in_one_order(pool, clock):
    """One that waits for the first of its keys holds none of the others: no two wait in a ring."""
    keys = [f"k{number}" for number in range(9)]
    for key_id in keys:
        await add_key(pool, key_id)
    partition = Partition(pool, clock)
    partition.send(summary(*map(counted, reversed(keys))))
    lock = "SELECT FROM key_usage WHERE key_id = $1 FOR UPDATE NOWAIT"
    by_holder = "SELECT count(*) FROM pg_locks WHERE $1 = ANY(pg_blocking_pids(pid))"
    async with (
        pool.acquire() as holder,
        pool.acquire() as other,
        asyncio.TaskGroup() as tasks,
        holder.transaction(),
    ):
        await holder.execute(lock, keys[0])
        tasks.create_task(partition.apply())
        async with asyncio.timeout(30):
            while not await other.fetchval(by_holder, holder.get_server_pid()):
                await asyncio.sleep(0.01)
        for key_id in keys[1:]:
            await other.execute(lock, key_id)
    assert (await known(pool, keys[-1])).count_on_day == 1


async def test_many_uses_are_one_write_and_old_news_are_none(pool, clock):
    """No write per request: a batch of a thousand uses makes one new version of the row."""
    await add_key(pool, "k")
    write = usage_writer(clock)
    uses = [summary(counted("k", count=20), second=NOON + number) for number in range(50)]
    async with pool.acquire() as connection, connection.transaction():
        await write(connection, [item(event) for event in uses])
        assert await updates(connection) == 1
        await write(connection, [item(summary(counted("k"), second=NOON - DAY))])
        assert await updates(connection) == 1
    assert (await known(pool, "k")).count_on_day == 1_000


async def test_within_a_minute_an_update_touches_no_index(pool, clock):
    """The indexed last use moves once a minute; between, row versions stay in their page."""
    await add_key(pool, "k")
    write = usage_writer(clock)
    async with pool.acquire() as connection, connection.transaction():
        await write(connection, [item(summary(counted("k"), second=NOON))])
        assert await updates(connection, "hot_updated") == 0, (
            "the first use moves the key in the index"
        )
        for number in range(1, 6):
            await write(connection, [item(summary(counted("k"), second=NOON + number))])
        assert await updates(connection, "hot_updated") == 5


async def updates(connection: Connection, kind: str = "updated") -> int:
    """How many updates of `key_usage` this transaction made."""
    return int(
        await connection.fetchval(f"SELECT pg_stat_get_xact_tuples_{kind}('key_usage'::regclass)")
    )


async def test_sources_are_forgotten_also_of_keys_that_nobody_uses_any_more(pool, clock):
    """An address is kept for 90 days, whether or not the key is used again."""
    await add_key(pool, "k")
    partition = Partition(pool, clock)
    partition.send(summary(counted("k", "203.0.113.9")))
    await partition.apply()
    usages = Usages(pool)
    assert list((await known(pool, "k")).sources) == ["203.0.113.0/24"]
    assert await usages.forget_sources(domain.oldest_day(NOON + 90 * DAY)) == 0
    assert await usages.forget_sources(domain.oldest_day(NOON + 91 * DAY)) == 1
    assert (await known(pool, "k")).sources == {}


# --- warnings -------------------------------------------------------------------------------------


async def test_a_search_by_warning_finds_what_the_rows_show(pool):
    """The conditions of the search and the rules of the rows are the same."""
    chance, now = random.Random(11), float(NOON)
    rows = [await _random_key(pool, chance, number, now) for number in range(count(120, 2_000))]
    by_id = {row["key_id"]: row for row in rows}
    for warning in ("unused_90_days", "many_networks", "expiring_soon", "predecessor_in_use"):
        condition = store.condition(warning, "$1")
        found = await pool.fetch(
            f"SELECT k.key_id FROM keys k JOIN key_usage u USING (key_id) WHERE {condition}", now
        )
        shown = {
            key_id
            for key_id, row in by_id.items()
            if warning in domain.warnings(_watched(row, by_id, now), now)
        }
        assert {row["key_id"] for row in found} == shown
        assert 0 < len(shown) < len(rows)


async def _random_key(pool: Pool, chance: random.Random, number: int, now: float) -> dict:
    """A key whose moments lie about the bounds of the warnings; every second one replaces the one before."""
    is_ended = chance.random() < 0.2
    replaces = number % 2 == 1
    row = {
        "key_id": f"k{number}",
        "status": chance.choice(["revoked", "expired"]) if is_ended else "active",
        "ended_at": now if is_ended else None,
        "created_at": now - chance.choice([0, 89, 90, 91, 200]) * DAY,
        "not_before": chance.choice([0.0, 0.0, now, now + 1, now - 90 * DAY]),
        "expires_at": chance.choice([None, now, now + 1, now + 14 * DAY, now + 15 * DAY]),
        "predecessor_key_id": f"k{number - 1}" if replaces else None,
        "successor_key_id": None
        if replaces
        else f"k{number + 1}"
        if chance.random() < 0.5
        else None,
    }
    row["rotated_at"] = now if row["successor_key_id"] else None
    await add_key(pool, **row)
    used_at = chance.choice([0.0, now - 91 * DAY, now - DAY, now - 3_600])
    many_at = chance.choice([0.0, now - DAY, now - 3_600])
    await pool.execute(
        "UPDATE key_usage SET used_at = $2, many_networks_at = $3 WHERE key_id = $1",
        row["key_id"],
        used_at,
        many_at,
    )
    return row | {"last_used_at": used_at // 60 * 60, "many_networks_at": many_at}


def _watched(row: dict, by_id: dict[str, dict], now: float) -> Watched:
    old = by_id.get(row["predecessor_key_id"])
    is_running = (
        old is not None
        and old["status"] == "active"
        and (old["expires_at"] is None or old["expires_at"] > now)
    )
    return Watched(
        is_active=row["status"] == "active"
        and row["not_before"] <= now
        and (row["expires_at"] is None or row["expires_at"] > now),
        works_since=max(row["created_at"], row["not_before"]),
        expires_at=row["expires_at"],
        is_superseded=row["successor_key_id"] is not None,
        last_used_at=row["last_used_at"],
        many_networks_at=row["many_networks_at"],
        predecessor_used_at=old["last_used_at"] if is_running else None,
    )


# --- failures stay its own ------------------------------------------------------------------------


def last_use(
    bootstrap: str, group: str, topic: str, pool: Pool, check: Callable[..., events.Click]
) -> tuple[LastUse, Counter]:
    """Last use over a topic of the test's own, all of whose records meet `check`."""
    metrics = ProjectionMetrics(CollectorRegistry(), "test")
    failures = Counter("failures", "Failures.", registry=CollectorRegistry())

    def make() -> Projection[events.Click]:
        return Projection(
            bootstrap,
            group=group,
            topics=(projection_parts.tracked_topic(topic),),
            check=check,
            sink=projection_parts.postgres_sink(pool),
            metrics=metrics,
            limits=replace(projection_parts.QUICK, letters_run_max=3),
        )

    return LastUse(make, Usages(pool), failures, SystemClock(), pause_seconds=0.05), failures


@pytest.fixture
async def clicks(kafka_bootstrap: str, unique: Unique, pool: Pool) -> str:
    """A topic with twenty clicks."""
    name = unique("clicks")
    await projection_parts.create(kafka_bootstrap, projection_parts.tracked_topic(name))
    await projection_parts.send_clicks(kafka_bootstrap, name, range(20))
    await pool.execute(projection_parts.EFFECTS_DDL)
    return name


@pytest.mark.logs_errors
async def test_a_projection_that_fails_begins_again_and_ends_nothing_else(
    kafka_bootstrap, unique, pool, clicks
):
    """A topic full of refused records must not take the staff's door away; once they pass, all is told."""
    is_refusing = True

    def check(record: Record[bytes, bytes]) -> events.Click:
        if is_refusing:
            raise InvalidError("refused on purpose")
        return projection_parts.check(record)

    running, failures = last_use(kafka_bootstrap, unique("usage"), clicks, pool, check)
    task = asyncio.ensure_future(running.run())
    await eventually(lambda: failures._value.get() >= 2, 60)
    assert not task.done()
    is_refusing = False
    async with asyncio.timeout(60):
        while await projection_parts.applied(pool) < 1:
            assert not task.done()
            await asyncio.sleep(0.05)
    await running.drain()
    await asyncio.wait_for(task, 30)


async def test_a_bug_ends_the_process_so_that_its_record_is_found(
    kafka_bootstrap, unique, pool, clicks
):
    """Only a new start counts the attempts at a record that kills."""

    def check(_record: Record[bytes, bytes]) -> events.Click:
        raise ZeroDivisionError

    running, failures = last_use(kafka_bootstrap, unique("usage"), clicks, pool, check)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(running.run(), 60)
    assert raised.group_contains(ZeroDivisionError)
    assert failures._value.get() == 0


# --- the whole service ----------------------------------------------------------------------------


async def send(platform: Platform, *told: DoorEvent) -> None:
    """Publish what doors tell."""
    async with open_producer(platform.bootstrap, client_id="test") as producer:
        for event in told:
            record = usage_parts.record(event)
            await producer.send_and_wait(
                record.topic, record.value, record.key, headers=list(record.headers)
            )


async def test_what_the_doors_tell_shows_at_the_key_within_seconds(service):
    """Requests and streams of a key issued by the running service: moment, address, end point, count."""
    ours = network()
    await service.tell(partner(ours))
    key_id = (await service.issue(staff(ours), 7))["key_id"]
    now = int(SystemClock().time())
    asked = summary(counted(key_id, "203.0.113.9", 3), second=now - 30, network_id=ours)
    await send(service, asked, opened(key_id, now - 20.0, network_id=ours, client_ip="10.0.0.1"))

    async def both_told() -> bool:
        rows = await service.execute("SELECT * FROM key_usage WHERE key_id = $1", key_id)
        return rows[0]["last_ip"] == "10.0.0.1" and len(await sources(service, key_id)) == 2

    await until(both_told)
    (row,) = await service.execute("SELECT * FROM key_usage WHERE key_id = $1", key_id)
    assert row["last_used_at"] == (now - 20) // 60 * 60
    assert row["last_endpoint"] == domain.STREAM
    is_one_day = (now - 30) // DAY == (now - 20) // DAY
    assert row["count_on_day"] == (4 if is_one_day else 1)


async def sources(platform: Platform, key_id: str) -> list[asyncpg.Record]:
    return await platform.execute("SELECT * FROM key_sources WHERE key_id = $1", key_id)


@pytest.mark.slow
async def test_staff_can_revoke_while_last_use_cannot_be_told(
    kafka_broker, database_url, schema, tmp_path
):
    """Its topic is missing, so that it has nothing to begin with; the service is ready all the same."""
    others = [topic for topic in topics.SOURCES if topic != topics.GATEWAY_ACCESS]
    await projection_parts.create(kafka_broker.bootstrap, *others)
    platform = Platform(kafka_broker.bootstrap, database_url, schema, tmp_path)
    ours = network()
    with running(platform):
        await platform.tell(partner(ours))
        key_id = (await platform.issue(staff(ours), 7))["key_id"]
        path = f"/v1/networks/apikeys/{key_id}/revoke"
        answer = await platform.call("POST", path, staff(ours), {})
        assert (answer.status_code, answer.json()["propagated"]) == (200, True)
        async with httpx.AsyncClient(base_url=platform.url, verify=False) as client:
            assert (await client.get("/readyz")).status_code == 200
