"""Protects the change feed: a copy kept by polling it equals the ledger, whatever happens."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Histogram

from services.reporting.changes.handlers import Changes, Horizon
from services.reporting.changes.store import ChangeStore
from services.reporting.facts.tables import CONVERSIONS, TABLE_OF_TOPIC
from services.reporting.scope import Scope
from shared.batches import Item
from shared.clickhouse import ClickHouse
from shared.clock import ManualClock
from shared.errors import GoneError, InvalidError
from shared.http import json_bytes
from shared.kafka import TopicPartition
from shared.sinks import ClickHouseSink, spliced
from tests import reporting_parts as parts
from tests.reporting_parts import NOW, Entry, conversion
from tests.soak import count

TOPIC = "tracking.conversions.v1"
MONTHS = (1_761_436_800, 1_766_000_000, 1_774_000_000)
DAY_MS = 86_400_000
ME = Scope(1, 10)


@dataclass
class Log:
    """One partition's log, and how far the feed may take it to be stored."""

    clickhouse: ClickHouse
    stored: int = 0
    topic_id: bytes = b"t" * 16
    through_ms: int = int(NOW * 1000)

    def horizon(self, _: Scope) -> Horizon:
        return Horizon(self.topic_id, self.stored, self.through_ms)

    async def write(self, entries: Sequence[Entry]) -> None:
        """As the projection does: insert, then go on."""
        sink: ClickHouseSink[Any] = ClickHouseSink(self.clickhouse, TABLE_OF_TOPIC)
        items = [Item(None, entry.record()) for entry in entries]
        await sink.write(TopicPartition(TOPIC, 0), items, entries[-1].offset + 1)
        self.stored = entries[-1].offset + 1

    async def show_in_part(self, entries: Iterable[Entry]) -> None:
        """Some rows of an insert can be seen, others of it cannot yet."""
        rows = [spliced(each.value, 0, each.offset, each.appended_ms) for each in entries]
        if rows:
            await self.clickhouse.insert(CONVERSIONS, b"\n".join(rows))

    async def lose_from(self, offset: int) -> None:
        """What a power cut does: the last rows are gone, and replaying begins before them."""
        for table in (CONVERSIONS, "conversion_changes"):
            await self.clickhouse.command(
                f"ALTER TABLE {table} DELETE WHERE _offset >= {offset} SETTINGS mutations_sync = 1"
            )
        self.stored = offset


@dataclass
class Copy:
    """A partner's copy, kept by the rule of the reference."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: Counter[tuple[str, int]] = field(default_factory=Counter)
    cursor: str = ""

    async def poll(self, changes: Changes, limit: int, scope: Scope = ME) -> bool:
        parameters = {"limit": str(limit)} | ({"cursor": self.cursor} if self.cursor else {})
        answer = msgspec.json.decode(json_bytes((await changes.poll(scope, parameters)).body))
        for change in answer["changes"]:
            self.told[change["conversion_id"], change["version"]] += 1
            if change["kind"] != "superseded":
                self.rows[change["conversion_id"]] = change
        self.cursor = answer["paging"]["next_cursor"]
        return bool(answer["paging"]["has_more"])

    async def catch_up(self, changes: Changes, limit: int = 100) -> None:
        while await self.poll(changes, limit):
            pass


@pytest.fixture
def log(facts: ClickHouse) -> Log:
    return Log(facts)


@pytest.fixture
def changes(log: Log) -> Changes:
    histogram = Histogram("read_seconds", "-", ["read"], registry=CollectorRegistry())
    store = ChangeStore(log.clickhouse, histogram)
    return Changes(store, log.horizon, ManualClock(NOW), kept_days=400)


def history(chance: random.Random, length: int) -> list[Entry]:
    """Versions in and out of order, republished records, two partners, several months."""
    made: list[Entry] = []
    latest: Counter[int] = Counter()
    skipped: list[tuple[int, int]] = []
    for offset in range(0, 2 * length, 2):
        number = chance.randrange(max(2, length // 4))
        if made and chance.random() < 0.2:
            made.append(replace(chance.choice(made), offset=offset))
            continue
        if skipped and chance.random() < 0.3:
            number, version = skipped.pop()
        else:
            version = latest[number] + 1
            if chance.random() < 0.2:
                skipped.append((number, version))
                version += 1
            latest[number] = version
        made.append(_version(chance, number, version, offset))
    return made


def _version(chance: random.Random, number: int, version: int, offset: int) -> Entry:
    return conversion(
        number,
        offset,
        version=version,
        network_affiliate_id=11 if number % 5 == 0 else 10,
        conversion_unix_timestamp=MONTHS[number % 3] + number,
        status=chance.choice(parts.STATUSES),
        revenue=chance.randrange(1, 4),
        is_scrub=chance.random() < 0.2,
    )


def ledger(log: Iterable[Entry], partner: int) -> dict[str, dict[str, Any]]:
    """The highest version of each conversion, folded without the service."""
    standing: dict[str, dict[str, Any]] = {}
    for entry in log:
        body = msgspec.json.decode(entry.value)
        held = standing.get(body["conversion_id"])
        if body["network_affiliate_id"] == partner and (
            held is None or body["version"] > held["version"]
        ):
            standing[body["conversion_id"]] = body
    return standing


def compare(copy: Copy, log: Sequence[Entry], partner: int = 10) -> None:
    wanted = ledger(log, partner)
    assert copy.rows.keys() == wanted.keys()
    for key, body in wanted.items():
        row = copy.rows[key]
        assert (row["version"], row["status"], row["is_scrub"], row["conversion"]["revenue"]) == (
            body["version"],
            body["status"],
            body["is_scrub"],
            body["revenue"],
        )
        assert row["is_counted"] == (body["status"] == "approved" and not body["is_scrub"])
    bodies = [msgspec.json.decode(entry.value) for entry in log]
    versions = {
        (body["conversion_id"], body["version"])
        for body in bodies
        if body["network_affiliate_id"] == partner
    }
    assert copy.told == Counter(dict.fromkeys(versions, 1))


async def test_a_copy_equals_the_ledger_whatever_happens_between_polls(
    log: Log, changes: Changes
) -> None:
    """Redelivered batches, half-visible inserts, lost tails that are replayed, polls at any time."""
    for seed in range(count(2, 60)):
        chance = random.Random(seed)
        for table in (CONVERSIONS, "conversion_changes"):
            await log.clickhouse.command(f"TRUNCATE TABLE {table}")
        log.stored = 0
        entries = history(chance, count(50, 200))
        copy, late = Copy(), Copy()
        begin = 0
        while begin < len(entries):
            end = min(begin + chance.randrange(1, 25), len(entries))
            await log.show_in_part(chance.sample(entries[begin:end], (end - begin) // 2))
            await copy.poll(changes, chance.choice((1, 3, 50)))
            await log.write(entries[begin:end])
            await copy.poll(changes, chance.choice((1, 3, 50)))
            if chance.random() < 0.25:
                await log.lose_from(entries[max(0, end - 30)].offset)
                end = max(0, end - 30)
            begin = end
        await copy.catch_up(changes)
        compare(copy, entries)
        await late.catch_up(changes, limit=7)
        compare(late, entries)
        assert late.cursor == copy.cursor


async def test_nothing_of_another_partner_is_told(log: Log, changes: Changes) -> None:
    """Each sees their own, and a cursor opens nobody else's."""
    entries = history(random.Random(5), 40)
    await log.write(entries)
    for partner in (10, 11):
        copy = Copy()
        while await copy.poll(changes, 9, Scope(1, partner)):
            pass
        compare(copy, entries, partner)
        assert copy.rows
        with pytest.raises(InvalidError, match="another partner"):
            await copy.poll(changes, 9, Scope(2, partner))
    stranger = Copy()
    assert not await stranger.poll(changes, 9, Scope(2, 10))
    assert not stranger.rows


async def test_a_change_has_the_shape_of_the_reference(log: Log, changes: Changes) -> None:
    """The public row beside what happened to it."""
    hold = {
        "on_hold_conversion_id": "f" * 32,
        "holding_period_end": 1_775_100_000,
        "status": "on_hold",
    }
    await log.write(
        [conversion(1, 0), conversion(1, 1, version=2, status="on_hold", hold=hold, revenue=2.5)]
    )
    copy = Copy()
    await copy.catch_up(changes)
    (row,) = copy.rows.values()
    shown = row.pop("conversion")
    assert shown["conversion_id"] == row["conversion_id"]
    assert shown["revenue"] == 2.5
    assert not {"status", "version", "hold", "network_affiliate_id"} & shown.keys()
    assert row == {
        "conversion_id": f"{1 + 0xC0000:032x}",
        "version": 2,
        "kind": "changed",
        "changed": ["status", "amount", "hold"],
        "status": "on_hold",
        "is_scrub": False,
        "is_counted": False,
        "hold": hold,
        "unix_timestamp": int(NOW),
    }


async def test_a_cursor_that_is_too_old_is_told_where_to_go_on(log: Log, changes: Changes) -> None:
    """Also one of a topic that was created anew; one that polls now and then never ages."""
    ancient = int(NOW * 1000) - 405 * DAY_MS
    clock = changes.clock
    assert isinstance(clock, ManualClock)
    await log.write([replace(conversion(0, 0), appended_ms=ancient)])
    old = Copy()
    log.through_ms = ancient
    await old.catch_up(replace(changes, clock=ManualClock(ancient / 1000)))
    assert old.rows
    log.through_ms = int(NOW * 1000)
    await log.write([conversion(1, 1), conversion(2, 2)])
    with pytest.raises(GoneError, match="400 days") as gone:
        await old.poll(changes, 5)
    fresh, going_on = Copy(), Copy(cursor=gone.value.oldest)
    for copy in (fresh, going_on):
        await copy.catch_up(changes)
        assert [row["version"] for row in copy.rows.values()] == [1, 1]
    log.topic_id = b"u" * 16
    with pytest.raises(GoneError):
        await fresh.poll(changes, 5)


async def test_an_idle_partners_cursor_stays_young(log: Log, changes: Changes) -> None:
    """It moves to the end of what is stored with every poll, though nothing is told."""
    copy = Copy()
    await copy.poll(changes, 5)
    first = copy.cursor
    log.stored, log.through_ms = 70, log.through_ms + DAY_MS
    await copy.poll(changes, 5)
    assert copy.cursor != first
    clock = ManualClock(NOW + 400 * 86_400)
    assert not await copy.poll(replace(changes, clock=clock), 5)
