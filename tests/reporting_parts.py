"""Histories of facts, and a plain recount of what reports must say about them.

The recount shares nothing with the service: it folds the decoded log by the rules of the contract
(one fact an id, the highest version counts) and adds up with decimals and `zoneinfo`.
"""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from services.reporting.facts.tables import TABLE_OF_TOPIC
from services.reporting.reports.handlers import Reports
from services.reporting.rows.handlers import Rows
from services.reporting.scope import Scope
from shared import events
from shared.batches import Item
from shared.clickhouse import ClickHouse
from shared.http import json_bytes
from shared.kafka import Record, TopicPartition
from shared.projection import ClickHouseSink

NOW = 1_775_000_000.0
WIDE = {"from": "2025-10-20", "to": "2026-04-05", "timezone_id": 67, "currency_id": "USD"}
"""A body that takes in every fact made here."""
PARTNERS = ((1, 10), (1, 11), (2, 10))
EDGES = (
    1_761_436_800,  # 2025-10-26: Europe puts its clocks back
    1_762_041_600,  # 2025-11-02: America does
    1_772_928_000,  # 2026-03-08: America puts them forward
    1_774_742_400,  # 2026-03-29: Europe does
)
"""Around these days local hours are missing or happen twice."""
OFFERS = {7: "Shoes", 8: "Hats, wide", 9: 'Bags "small"'}
SUBS = ("", "a", "b'quoted", "snow ☃ man", "N/A")
STATUSES = ("approved", "pending", "rejected", "invalid", "on_hold")


@dataclass(frozen=True)
class Entry:
    """One record of the log."""

    topic: str
    partition: int
    offset: int
    value: bytes
    appended_ms: int = int(NOW * 1000)

    def record(self) -> Record[bytes, bytes]:
        """As a consumer hands it out."""
        return Record(
            self.topic,
            self.partition,
            self.offset,
            self.appended_ms,
            0,
            None,
            self.value,
            None,
            0,
            0,
            (),
        )


class History:
    """A seeded log of clicks, impressions and conversions of three partners."""

    def __init__(self, seed: int, clicks: int = 300) -> None:
        self._random = random.Random(seed)
        self._number = 0
        self.log: list[Entry] = []
        self._next_offset: dict[tuple[str, int], int] = defaultdict(int)
        values = [value for _ in range(clicks) for value in self._visit()]
        for topic, partner, value in self._disordered(values):
            self._append(topic, partner, value)

    def _visit(self) -> Iterable[tuple[str, int, bytes]]:
        """A click or an impression, and what comes of it."""
        partner = self._random.randrange(len(PARTNERS))
        common = self._common(partner)
        stamp = self._random.choice(EDGES) + self._random.randrange(-90_000, 180_000)
        if self._random.random() < 0.2:
            yield "tracking.impressions.v1", partner, self._impression(common, stamp)
        yield "tracking.clicks.v1", partner, self._click(common, stamp)
        for _ in range(self._random.choice((0, 0, 1, 2))):
            yield from self._conversion(common, partner, stamp)

    def _common(self, partner: int) -> dict[str, Any]:
        network_id, partner_id = PARTNERS[partner]
        return {
            "network_id": network_id,
            "network_affiliate_id": partner_id,
            "transaction_id": self._id(),
            "sub1": self._random.choice(SUBS),
            "sub2": self._random.choice(SUBS),
            "currency_id": "USD",
            "offer": self._random.choice(list(OFFERS)),
        }

    def _id(self) -> str:
        self._number += 1
        return f"{self._random.getrandbits(96):024x}{self._number:08x}"

    def _money(self) -> float:
        return float(Decimal(self._random.randrange(0, 90_000_000)).scaleb(-6))

    def _related(self, common: dict[str, Any]) -> dict[str, Any]:
        return {
            "network_offer_id": common["offer"],
            "network_id": common["network_id"],
            "name": OFFERS[common["offer"]],
        }

    def _traffic(self, common: dict[str, Any], stamp: int) -> dict[str, Any]:
        body = {name: value for name, value in common.items() if name != "offer"}
        return body | {
            "unix_timestamp": stamp,
            "relationship": {
                "offer": self._related(common),
                "geolocation": {"country_name": self._random.choice(("Germany", "Brazil"))},
            },
        }

    def _click(self, common: dict[str, Any], stamp: int) -> bytes:
        body = self._traffic(common, stamp) | {
            "is_unique": self._random.choice((0, 1, 1)),
            "error_code": self._random.choice((0, 0, 0, 9)),
            "revenue": self._money() if self._random.random() < 0.3 else 0,
            "is_redirect_traffic": self._random.random() < 0.1,
        }
        return msgspec.json.encode(body)

    def _impression(self, common: dict[str, Any], stamp: int) -> bytes:
        return msgspec.json.encode(self._traffic(common, stamp) | {"transaction_id": self._id()})

    def _conversion(
        self, common: dict[str, Any], partner: int, stamp: int
    ) -> Iterable[tuple[str, int, bytes]]:
        body = {name: value for name, value in common.items() if name != "offer"}
        body |= {
            "conversion_id": self._id(),
            "conversion_unix_timestamp": stamp + self._random.randrange(0, 90_000),
            "click_unix_timestamp": stamp,
            "is_event": self._random.random() < 0.3,
            "is_view_through": self._random.random() < 0.1,
            "is_scrub": self._random.random() < 0.05,
            "country": "Germany",
            "relationship": {"offer": self._related(common)},
        }
        if body["is_event"]:
            body["event"] = "Purchase"
        for version in range(1, self._random.randrange(1, 4) + 1):
            changed = {
                "version": version,
                "status": self._random.choice(STATUSES),
                "revenue": self._money(),
            }
            yield "tracking.conversions.v1", partner, msgspec.json.encode(body | changed)

    def _disordered(self, values: list[tuple[str, int, bytes]]) -> Iterable[tuple[str, int, bytes]]:
        """Late, repeated, and versions out of order."""
        repeated = self._random.sample(values, len(values) // 10)
        placed = [
            (index + self._random.expovariate(1 / 5), value)
            for index, value in enumerate([*values, *repeated])
        ]
        return [value for _, value in sorted(placed, key=lambda pair: pair[0])]

    def _append(self, topic: str, partner: int, value: bytes) -> None:
        where = (topic, partner)
        self.log.append(Entry(topic, partner, self._next_offset[where], value))
        self._next_offset[where] += 1


async def store(clickhouse: ClickHouse, log: Sequence[Entry], seed: int) -> None:
    """Bring `log` into the tables in batches of any size, some of them twice."""
    chance = random.Random(seed)
    sink: ClickHouseSink[Any] = ClickHouseSink(clickhouse, TABLE_OF_TOPIC)
    by_partition: dict[TopicPartition, list[Entry]] = defaultdict(list)
    for entry in log:
        by_partition[TopicPartition(entry.topic, entry.partition)].append(entry)
    for partition, entries in by_partition.items():
        begin = 0
        while begin < len(entries):
            end = begin + chance.randrange(1, 200)
            items = [Item(None, entry.record()) for entry in entries[begin:end]]
            for _ in range(chance.choice((1, 1, 2))):
                await sink.write(partition, items, items[-1].record.offset + 1)
            begin = end


# --- the recount ----------------------------------------------------------------------------------


def facts(log: Iterable[Entry], partner: tuple[int, int]) -> dict[str, list[Any]]:
    """What stands in the end, by kind: one fact an id."""
    clicks: dict[str, events.Click] = {}
    impressions: dict[str, events.Impression] = {}
    conversions: dict[str, events.Conversion] = {}
    for entry in log:
        if entry.topic == "tracking.clicks.v1":
            click = msgspec.json.decode(entry.value, type=events.Click)
            clicks[click.transaction_id] = click
        elif entry.topic == "tracking.impressions.v1":
            impression = msgspec.json.decode(entry.value, type=events.Impression)
            impressions[impression.transaction_id] = impression
        else:
            conversion = msgspec.json.decode(entry.value, type=events.Conversion)
            held = conversions.get(conversion.conversion_id)
            if held is None or conversion.version >= held.version:
                conversions[conversion.conversion_id] = conversion

    def mine(found: Iterable[Any]) -> list[Any]:
        return [f for f in found if (f.network_id, f.network_affiliate_id) == partner]

    return {
        "clicks": mine(clicks.values()),
        "impressions": mine(impressions.values()),
        "conversions": mine(conversions.values()),
    }


def stamp_of(fact: Any) -> int:
    """Its time."""
    if isinstance(fact, events.Conversion):
        return fact.conversion_unix_timestamp
    return int(fact.unix_timestamp)


def money(amount: float) -> Decimal:
    """As the log says it, exactly."""
    return Decimal(repr(amount))


def bucket(fact: Any, column: str, zone: ZoneInfo) -> str:
    """The id of the fact's bucket."""
    local = datetime.fromtimestamp(stamp_of(fact), zone)
    if column == "date":
        return str(int(datetime(local.year, local.month, local.day, tzinfo=zone).timestamp()))
    if column == "hour":
        return str(local.hour)
    if column == "week":
        day = local.date() - timedelta(days=local.weekday())
        return str(int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()))
    if column == "offer":
        return str(fact.relationship.offer.network_offer_id)
    if column == "country":
        is_conversion = isinstance(fact, events.Conversion)
        found = fact.country if is_conversion else fact.relationship.geolocation.country_name
        return found or "N/A"
    return getattr(fact, column) or "N/A"


def recount(
    found: dict[str, list[Any]],
    columns: Sequence[str],
    zone: ZoneInfo,
    is_wanted: Callable[[Any], bool],
) -> dict[tuple[str, ...], dict[str, Decimal]]:
    """The exact sums of each row of a report."""
    rows: dict[tuple[str, ...], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for click in filter(is_wanted, found["clicks"]):
        row = rows[tuple(bucket(click, column, zone) for column in columns)]
        if click.error_code:
            row["invalid_click"] += 1
            continue
        row["unique_click" if click.is_unique else "duplicate_click"] += 1
        row["total_click"] += 1
        row["revenue"] += money(click.revenue)
        if click.is_redirect_traffic:
            row["redirect_traffic_revenue"] += money(click.revenue)
    for impression in filter(is_wanted, found["impressions"]):
        rows[tuple(bucket(impression, column, zone) for column in columns)]["imp"] += 1
    for conversion in filter(is_wanted, found["conversions"]):
        if conversion.is_scrub:
            continue
        row = rows[tuple(bucket(conversion, column, zone) for column in columns)]
        if conversion.status == "on_hold":
            row["on_hold_conversion_count"] += 1
            row["on_hold_potential_revenue"] += money(conversion.revenue)
        if conversion.status != "approved":
            continue
        row["revenue"] += money(conversion.revenue)
        if conversion.is_event:
            row["event"] += 1
        else:
            row["view_through_cv" if conversion.is_view_through else "cv"] += 1
    return rows


# --- asking and making single facts ---------------------------------------------------------------


def columns(*names: str) -> list[dict[str, str]]:
    """As in a body."""
    return [{"column": name} for name in names]


def exact(raw: bytes) -> Any:
    """JSON with its numbers as decimals."""
    return json.loads(raw, parse_float=Decimal, parse_int=Decimal)


async def table(reports: Reports, partner: tuple[int, int], **body: Any) -> list[dict[str, Any]]:
    """The rows of a report as a program reads them off the wire."""
    answer = await reports.table(Scope(*partner), msgspec.json.encode(WIDE | body))
    assert answer.body["incomplete_results"] is False
    rows: list[dict[str, Any]] = exact(json_bytes(answer.body))["table"]
    return rows


async def search(
    rows: Rows, parameters: dict[str, str] | None = None, **body: Any
) -> dict[str, Any]:
    """A page of conversions of partner (1, 10) as a program reads it off the wire."""
    answer = await rows.conversions(
        Scope(1, 10), msgspec.json.encode(WIDE | body), parameters or {}
    )
    found: dict[str, Any] = exact(json_bytes(answer.body))
    return found


def click(number: int, **more: Any) -> Entry:
    """A click of partner (1, 10)."""
    return Entry("tracking.clicks.v1", 0, number, msgspec.json.encode(click_body(number) | more))


def click_body(number: int) -> dict[str, Any]:
    """The least that a click must have."""
    return {
        "network_id": 1,
        "network_affiliate_id": 10,
        "transaction_id": f"{number:032x}",
        "currency_id": "USD",
        "unix_timestamp": 1_774_000_000,
        "is_unique": 1,
        "relationship": related(),
    }


def conversion(number: int, offset: int | None = None, **more: Any) -> Entry:
    """An approved conversion of partner (1, 10), `number` seconds after the clicks."""
    body = {
        "network_id": 1,
        "network_affiliate_id": 10,
        "transaction_id": f"{number:032x}",
        "conversion_id": f"{number + 0xC0000:032x}",
        "version": 1,
        "status": "approved",
        "currency_id": "USD",
        "conversion_unix_timestamp": 1_774_000_000 + number,
        "revenue": 1.5,
        "relationship": related(),
    }
    place = number if offset is None else offset
    return Entry("tracking.conversions.v1", 0, place, msgspec.json.encode(body | more))


def related(**more: Any) -> dict[str, Any]:
    """The related data of a fact."""
    return {"offer": {"network_offer_id": 7, "network_id": 1, "name": "Shoes"}} | more
