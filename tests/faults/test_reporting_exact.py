"""Protects what reporting is for: every endpoint's totals are those of a plain recount.

A history is sent to the real topics while the service, a process of its own, is killed in mid-batch
and at any moment, and started again: each start has the log redelivered. When it has caught up,
every endpoint is asked over HTTP and compared with `tests/recount.py`.
"""

import asyncio
import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from aiokafka.admin import RecordsToDelete

from deploy.local.ports import free_ports
from shared import topics
from shared.kafka import Producer, open_admin, open_consumer, open_producer, partitions_of
from tests import backends, projection_parts, recount, reporting_service
from tests.histories import CURRENCIES, OFFERS, TEXTS, History
from tests.recount import Body, Counted, Facts, Scope, Sent
from tests.soak import SOAK, count

HISTORIES = count(1, 50)
RECORDS = count(2_500, 20_000)
BATCH_RECORDS = count(300, 1_000)
"""Small enough that there are many batches to be killed in."""
KILLS = 2
POINTS = (
    "projection.before_write",
    "projection.mid_write",
    "projection.after_write",
    "projection.after_batch",
)
DEADLINE_SECONDS = 120
ROOT = Path(__file__).parent.parent.parent
REPORTING = "/v1/affiliates/reporting"
ZONES = {56: "Europe/Berlin", 80: "America/New_York", 29: "Asia/Kathmandu", 67: "UTC"}
ZONES |= {9: "Australia/Lord_Howe", 99: "Pacific/Pago_Pago", 1: "Pacific/Kiritimati"}
WHOLE_HOURS = (67, 56, 80, 29)
"""Zones whose clocks change by whole hours."""
ENCODER = msgspec.json.Encoder(decimal_format="number")
NETWORKS = iter(range(random.Random(time.time_ns()).randrange(10**6, 10**9), 2**40, 2))
"""Of this run alone: the topics are the real ones."""


@pytest.fixture(scope="module")
def bootstrap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The session's Kafka; in full, one whose records may be deleted between histories."""
    if not SOAK:
        yield request.getfixturevalue("kafka_bootstrap")
        return
    broker = backends.embedded_kafka(tmp_path_factory.mktemp("kafka"))
    asyncio.run(broker.start())
    yield broker.bootstrap
    asyncio.run(broker.stop())


@pytest.mark.timeout(count(180, 600))
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_every_endpoint_equals_a_recount_whatever_happened(
    seed: int, bootstrap: str, database_url: str, schema: str, tmp_path: Path
) -> None:
    """Through kills in mid-batch and redelivery, for each partner, column set, zone, currency."""
    begun = time.monotonic()
    await topics.apply(bootstrap)
    await projection_parts.settled(bootstrap, *topics.TOPICS)
    history = History(seed, RECORDS, next(NETWORKS), int(time.time()))
    process = Reporting(bootstrap, database_url, schema, tmp_path)
    async with open_producer(bootstrap, client_id="test", linger_ms=5) as producer:
        log = Log(producer, history)
        async with httpx.AsyncClient(base_url=process.url, timeout=60) as client:
            partners = [Partner(scope, client, history) for scope in history.partners]
            await _survived(process, log, partners, random.Random(seed))
            with process.running():
                await process.ready(client)
                for index, partner in enumerate(partners):
                    await partner.caught_up(log.sent_at, with_rates=True)
                    if SOAK or partner is partners[0]:
                        await _pages_while_rows_change(log, partner)
                    chance = random.Random(f"{seed} {index}")
                    await _compare(partner, log.facts[partner.scope], chance)
                await _nothing_for_a_stranger(client, history)
    if SOAK:
        await _forget(bootstrap)
    seconds = time.monotonic() - begun
    print(f"seed {seed}: {log.records} records, {KILLS} kills, {seconds:.0f} s")


async def _survived(
    process: "Reporting", log: "Log", partners: "Sequence[Partner]", chance: random.Random
) -> None:
    """Send the log, a part a life of the process, each of which ends by SIGKILL."""
    await log.send_rates()
    places = sorted(chance.sample(range(1, len(log.waiting)), KILLS))
    parts = [log.waiting[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]
    for index, part in enumerate(parts[:-1]):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log.send(part))
            if index % 2 == 0:
                point = f"{chance.choice(POINTS)}:{chance.randrange(1, 7)}"
                with process.running(crash_at=point):
                    await process.killed(point)
            else:
                with process.running():
                    await process.ready(partners[0].client)
                    await _another_member(process)
                    await _until_shown(partners, log, chance.random())
        for group in ("facts", "rates", "catalog"):
            await projection_parts.bury(process.bootstrap, f"{process.schema}.{group}")
    await log.send(parts[-1])


async def _another_member(process: "Reporting") -> None:
    """It joins, takes some of the partitions away and leaves: two rebalances amid the traffic."""
    group = f"{process.schema}.facts"
    async with open_consumer(process.bootstrap, client_id="another", group=group) as consumer:
        consumer.subscribe([topic.name for topic in topics.TRACKING.values()])
        for _ in _tries("the other member to have partitions"):
            await consumer.getmany(timeout_ms=100)
            if consumer.assignment():
                return


async def _until_shown(partners: "Sequence[Partner]", log: "Log", share: float) -> None:
    """Until that share of a partner's traffic sent so far is shown; the feed is polled meanwhile."""
    partner = partners[0]
    for _ in _tries("facts to be shown"):
        facts = log.facts[partner.scope]
        wanted = share * (len(facts.clicks) + len(facts.impressions))
        answer = await partner.post(f"{REPORTING}/entity/table", columns=_columns(["offer"]))
        shown = sum(
            row["reporting"][name]
            for row in answer["table"]
            for name in ("imp", "total_click", "invalid_click")
        )
        await partner.poll_changes()
        if shown and shown >= wanted:
            return
        await asyncio.sleep(0.02)


async def _nothing_for_a_stranger(client: httpx.AsyncClient, history: History) -> None:
    stranger = Partner((history.partners[0][0], 99), client, history)
    answer = await stranger.post(f"{REPORTING}/entity/table", columns=_columns(["offer"]))
    assert answer["table"] == []


async def _forget(bootstrap: str) -> None:
    """Delete what the topics hold, so that the next history begins with an empty log."""
    names = [topic.name for topic in topics.TRACKING.values()]
    async with open_consumer(bootstrap, client_id="test") as consumer:
        ends = await consumer.end_offsets(await partitions_of(consumer, names))
    async with open_admin(bootstrap) as admin:
        await admin.delete_records({at: RecordsToDelete(end) for at, end in ends.items()})


# --- the process, the log, a partner --------------------------------------------------------------


@dataclass
class Reporting:
    """The service as a process, one at a time."""

    bootstrap: str
    database_url: str
    schema: str
    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self, crash_at: str = "") -> Iterator[None]:
        """A life of the process, ended by SIGKILL."""
        environment = {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "DATABASE_URL": self.database_url,
            "IDENTITY_SECRETS": reporting_service.SECRET,
            "REPORTING_DB_SCHEMA": self.schema,
            "REPORTING_PORT": str(self.port),
            "REPORTING_CLICKHOUSE_PATH": str(self.folder / "clickhouse"),
            "REPORTING_BATCH_SECONDS": "0.2",
            "REPORTING_BATCH_RECORDS_MAX": str(BATCH_RECORDS),
            "PORTICO_CRASH_AT": crash_at,
            "PORTICO_LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "services.reporting"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment)
        try:
            yield
        finally:
            self._process.kill()
            self._process.wait()

    async def ready(self, client: httpx.AsyncClient) -> None:
        """Wait until it may be asked."""
        assert self._process is not None
        for _ in _tries("the process to be ready"):
            assert self._process.poll() is None, self._process.returncode
            try:
                answer = await client.get("/readyz")
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                return
            await asyncio.sleep(0.05)

    async def killed(self, point: str) -> None:
        """Wait until it has killed itself."""
        assert self._process is not None
        for _ in _tries(f"the process to die at {point}"):
            if self._process.poll() is not None:
                break
            await asyncio.sleep(0.02)
        assert self._process.returncode == -signal.SIGKILL


class Log:
    """What is sent, and what it comes to for each partner."""

    def __init__(self, producer: Producer, history: History) -> None:
        self._producer = producer
        self.history = history
        self.waiting = history.log
        self.facts: dict[Scope, Facts] = {scope: Facts() for scope in history.partners}
        self.records = 0
        self.sent_at = 0.0

    async def send_rates(self) -> None:
        """Send the rates of both networks."""
        for body in self.history.rate_records:
            key = f"{body['network_id']}:{body['currency_id']}:{body['date']}".encode()
            await self._producer.send(
                topics.NETWORK_RATES.name, value=ENCODER.encode(body), key=key
            )
        await self._producer.flush()

    async def send(self, part: Iterable[Sent]) -> None:
        """Append records, in order."""
        for sent in part:
            self.facts[sent.scope].add(sent)
            await self._producer.send(
                topics.TRACKING[sent.kind].name,
                value=ENCODER.encode(sent.body),
                key=b"%d:%d" % sent.scope,
            )
            self.records += 1
        await self._producer.flush()
        self.sent_at = time.time()


@dataclass
class Partner:
    """A partner's program, with its copy of the change feed."""

    scope: Scope
    client: httpx.AsyncClient
    history: History
    copy: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: "Counter[tuple[str, int]]" = field(default_factory=Counter)
    cursor: str = ""
    through: float = 0.0

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer to a request over a whole year, unless `body` says otherwise."""
        return await self._asked("POST", path, _year() | body)

    async def csv(self, path: str, **body: Any) -> list[dict[str, str]]:
        """The lines of a CSV file over a whole year, by the fields of its header."""
        answer = await self._answered("POST", path, _year() | body | {"format": "csv"}, 200)
        return list(csv.DictReader(io.StringIO(answer.text, newline="")))

    async def get(self, path: str, *, found: bool = True) -> dict[str, Any]:
        """One thing; or nothing, if none is to be found."""
        return await self._asked("GET", path, None, status=200 if found else 404)

    async def _asked(self, method: str, path: str, body: Any, status: int = 200) -> dict[str, Any]:
        answer = await self._answered(method, path, body, status)
        found: dict[str, Any] = json.loads(answer.content, parse_float=Decimal, parse_int=Decimal)
        return found

    async def _answered(self, method: str, path: str, body: Any, status: int) -> httpx.Response:
        for _ in _tries(path):
            answer = await reporting_service.call(
                self.client, method, path, body, network=self.scope[0], partner=self.scope[1]
            )
            if answer.status_code != 503:
                break
            await asyncio.sleep(0.05)
        assert answer.status_code == status, f"{path}: {answer.text}"
        if status == 200:
            self.through = reporting_service.through_of(answer)
        return answer

    async def caught_up(self, sent_at: float, *, with_rates: bool = False) -> None:
        """Wait until everything appended until then is in the answers."""
        path = f"{REPORTING}/{'entity/table' if with_rates else 'clicks'}"
        for _ in _tries("reporting to catch up"):
            await self.post(path, columns=_columns(["year"]), **_days(1, 1))
            if self.through > sent_at:
                return
            await asyncio.sleep(0.1)

    async def poll_changes(self) -> bool:
        """Go on with the change feed; whether more waits."""
        query = f"?limit=700&cursor={self.cursor}" if self.cursor else "?limit=700"
        answer = await self.get(f"{REPORTING}/changes{query}")
        for change in answer["changes"]:
            self.told[change["conversion_id"], int(change["version"])] += 1
            if change["kind"] != "superseded":
                self.copy[change["conversion_id"]] = change
        self.cursor = answer["paging"]["next_cursor"]
        return bool(answer["paging"]["has_more"])


def _tries(what: str) -> Iterator[None]:
    """Turns until the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert time.monotonic() < deadline, f"waited too long for {what}"
        yield


def _year() -> dict[str, Any]:
    return _days(-361, 1) | {"timezone_id": 67, "currency_id": "USD", "show_events": True}


def _days(first: int, last: int) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    return {"from": str(today + timedelta(days=first)), "to": str(today + timedelta(days=last))}


def _columns(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"column": name} for name in names]


# --- what is compared -----------------------------------------------------------------------------


async def _compare(partner: Partner, facts: Facts, chance: random.Random) -> None:
    """Every endpoint with the recount."""
    rates = partner.history.rates[partner.scope[0]]
    currency = chance.choice(CURRENCIES)
    counted = facts.counted(rates, currency)
    await _tables(partner, counted, currency, chance)
    await _variants(partner, counted, currency)
    await _entity(partner, counted, currency, chance)
    await _daily(partner, counted, currency, chance)
    await _dashboard(partner, counted, currency, chance)
    await _sums_of_rows(partner, currency)
    await _conversions(partner, facts, chance)
    await _held(partner, facts, chance)
    await _clicks(partner, facts, chance)
    await _changes(partner, facts)


async def _tables(
    partner: Partner, counted: Sequence[Counted], currency: str, chance: random.Random
) -> None:
    """Rows by any columns, filtered or not; all that are not filtered come to one grand total."""
    grand = recount.total(counted)
    for turn in range(count(3, 6)):
        names = chance.sample(recount.DIMENSIONS, chance.choice((0, 1, 2, 3)))
        names += [chance.choice(recount.TIMES)] if turn % 2 or not names else []
        zone_id = chance.choice(list(ZONES))
        query, wanted = _query(chance) if turn % 3 == 2 else ({}, lambda _: True)
        answer = await partner.post(
            f"{REPORTING}/entity/table",
            columns=_columns(names),
            timezone_id=zone_id,
            currency_id=currency,
            query=query,
        )
        chosen = [each for each in counted if wanted(each.body)]
        rows = recount.grouped(chosen, names, ZoneInfo(ZONES[zone_id]))
        _same_rows(answer, rows)
        if not query and not answer["incomplete_results"]:
            assert _added(answer["table"]) == grand
        if turn % 3 == 1:
            await _by_metrics(partner, rows, currency, chance, columns=names, zone_id=zone_id)


async def _by_metrics(
    partner: Partner,
    rows: Mapping[tuple[str, ...], recount.Sums],
    currency: str,
    chance: random.Random,
    *,
    columns: Sequence[str],
    zone_id: int,
) -> None:
    """The same rows by what they show: a bound that some of them meet, and one that they equal."""
    metric = chance.choice(("total_click", "cv", "revenue", "cvr", "rpc"))
    shown = {key: recount.measured(sums)[metric] for key, sums in rows.items()}
    bound = Decimal(str(round(float(chance.choice(sorted(shown.values()) or [Decimal(1)])), 2)))
    for operator, holds in (
        ("greater_than", bound.__lt__),
        ("less_than", bound.__gt__),
        ("equal", bound.__eq__),
    ):
        kept = {
            "metric_type": metric,
            "operator": operator,
            "metric_value": float(bound),
        }
        answer = await partner.post(
            f"{REPORTING}/entity/table",
            columns=_columns(columns),
            timezone_id=zone_id,
            currency_id=currency,
            query={"metric_filters": [kept]},
        )
        _same_rows(answer, {key: rows[key] for key, value in shown.items() if holds(value)})


async def _variants(partner: Partner, counted: Sequence[Counted], currency: str) -> None:
    """The same report under other names."""
    zone = ZoneInfo("UTC")
    for path, column in (
        ("entity/stream", "country"),
        ("entity/table/export", "browser"),
        ("offer", "offer"),
        ("sub/2", "sub2"),
    ):
        answer = await partner.post(
            f"{REPORTING}/{path}", columns=_columns([column]), currency_id=currency, format="json"
        )
        _same_rows(answer, recount.grouped(counted, [column], zone))
    rows = recount.grouped(counted, ["sub1", "country"], zone)
    lines = await partner.csv(
        f"{REPORTING}/entity/table/export",
        columns=_columns(["sub1", "country"]),
        currency_id=currency,
    )
    found = {
        (line.pop("sub1"), line.pop("country")): {name: Decimal(line[name]) for name in line}
        for line in lines
    }
    assert len(found) == len(lines)
    assert found == {key: recount.measured(sums) for key, sums in rows.items()}


def _query(chance: random.Random) -> tuple[dict[str, Any], Any]:
    """Filters, and the same as a condition."""
    offers, sub = chance.sample(sorted(OFFERS), 2), chance.choice(TEXTS)
    query = {
        "filters": [
            {"resource_type": "offer", "filter_id_value": chance.choice((offer, str(offer)))}
            for offer in offers
        ],
        "exclusions": [{"resource_type": "sub1", "filter_id_value": sub}],
        "settings": {"ignore_fail_traffic": True},
    }

    def is_wanted(body: Body) -> bool:
        is_excluded = (body["sub1"] or recount.EMPTY) == (sub or recount.EMPTY)
        is_of_offer = body["relationship"]["offer"]["network_offer_id"] in offers
        return is_of_offer and not is_excluded and not body.get("is_redirect_traffic")

    return query, is_wanted


def _same_rows(answer: Mapping[str, Any], wanted: Mapping[tuple[str, ...], recount.Sums]) -> None:
    """All rows, or the 10,000 largest of them."""
    table = answer["table"]
    found = {tuple(cell["id"] for cell in row["columns"]): row["reporting"] for row in table}
    assert len(found) == len(table) == min(len(wanted), 10_000)
    assert answer["incomplete_results"] == (len(wanted) > 10_000)
    assert found == {key: recount.measured(wanted[key]) for key in found}
    sizes = [(row["reporting"]["total_click"], row["reporting"]["revenue"]) for row in table]
    assert sizes == sorted(sizes, reverse=True)


def _added(table: Iterable[Mapping[str, Any]]) -> recount.Sums:
    found = dict.fromkeys(recount.SUMS, Decimal(0))
    for row in table:
        for name in recount.SUMS:
            found[name] += row["reporting"][name]
    return found


async def _entity(
    partner: Partner, counted: Sequence[Counted], currency: str, chance: random.Random
) -> None:
    """Rows, summary and series: of a year by the day, of a day by the hour."""
    zone_id = chance.choice(WHOLE_HOURS)
    zone = ZoneInfo(ZONES[zone_id])
    for days in ((-361, 1), (-1, 0)):
        bounds = _days(*days)
        answer = await partner.post(
            f"{REPORTING}/entity",
            columns=_columns(["sub3"]),
            timezone_id=zone_id,
            currency_id=currency,
            **bounds,
        )
        chosen = _between(counted, bounds, zone)
        _same_rows(answer, recount.grouped(chosen, ["sub3"], zone))
        assert answer["summary"] == recount.measured(recount.total(chosen))
        by_time: dict[int, list[Counted]] = {}
        for each in chosen:
            local = datetime.fromtimestamp(each.stamp, zone).date()
            is_hourly = days == (-1, 0)
            begin = (
                recount.hour_start(each.stamp, zone)
                if is_hourly
                else recount.day_start(local, zone)
            )
            by_time.setdefault(begin, []).append(each)
        series = {int(item["unix"]): item["reporting"] for item in answer["performance"]}
        assert len(series) == len(answer["performance"])
        assert by_time.keys() <= series.keys()
        for begin, reporting in series.items():
            assert reporting == recount.measured(recount.total(by_time.get(begin, ())))


def _between(
    counted: Iterable[Counted], bounds: Mapping[str, str], zone: ZoneInfo
) -> list[Counted]:
    since = recount.day_start(date.fromisoformat(bounds["from"]), zone)
    until = recount.day_start(date.fromisoformat(bounds["to"]) + timedelta(days=1), zone)
    return [each for each in counted if since <= each.stamp < until]


async def _daily(
    partner: Partner, counted: Sequence[Counted], currency: str, chance: random.Random
) -> None:
    """Each day of two months, those without facts as well."""
    zone_id = chance.choice(list(ZONES))
    zone = ZoneInfo(ZONES[zone_id])
    bounds = _days(-60, 0)
    answer = await partner.post(
        f"{REPORTING}/daily", timezone_id=zone_id, currency_id=currency, **bounds
    )
    days: dict[str, list[Counted]] = {}
    for each in _between(counted, bounds, zone):
        days.setdefault(str(datetime.fromtimestamp(each.stamp, zone).date()), []).append(each)
    first = date.fromisoformat(bounds["from"])
    assert [row["date"] for row in answer["table"]] == [
        str(first + timedelta(days=day)) for day in range(61)
    ]
    for row in answer["table"]:
        whole = recount.measured(recount.total(days.get(row["date"], ())))
        assert row["reporting"] == {name: whole[name] for name in recount.DAILY}


async def _dashboard(
    partner: Partner, counted: Sequence[Counted], currency: str, chance: random.Random
) -> None:
    """Its cards are those of some second between question and answer; its chart adds up."""
    chart = await partner.post("/v1/affiliates/dashboard/performance", currency_id=currency)
    assert chart["summary"] == recount.measured(recount.total(counted))
    zone_id = chance.choice(list(ZONES))
    since = int(time.time())
    answer = await partner.post(
        "/v1/affiliates/dashboard/summary", timezone_id=zone_id, currency_id=currency
    )
    seconds = range(since, int(time.time()) + 1)
    zone = ZoneInfo(ZONES[zone_id])
    recent = [each for each in counted if each.stamp > since - 70 * recount.DAY]
    assert answer in [recount.cards(recent, now, zone) for now in seconds]


async def _sums_of_rows(partner: Partner, currency: str) -> None:
    """A report is the sum of the raw rows that the other endpoints show: no recount takes part."""
    bounds = _days(-10, 1)
    report = await partner.post(
        f"{REPORTING}/entity", columns=_columns(["offer"]), currency_id=currency, **bounds
    )
    clicks = (await partner.post(f"{REPORTING}/clicks", **bounds))["clicks"]
    if len(clicks) == 5_000:
        return
    conversions = [row async for row in _all_pages(partner, f"{REPORTING}/conversions", **bounds)]
    summary = report["summary"]
    valid = [row for row in clicks if not row["error_code"]]
    assert summary["total_click"] == len(valid)
    assert summary["invalid_click"] == len(clicks) - len(valid)
    assert summary["cv"] + summary["view_through_cv"] + summary["event"] == len(conversions)
    rates = partner.history.rates[partner.scope[0]]
    earned = [(row, int(row["unix_timestamp"])) for row in valid]
    earned += [(row, int(row["conversion_unix_timestamp"])) for row in conversions]
    assert summary["revenue"] == sum(
        rates.converted(row["revenue"], row["currency_id"], currency, stamp)
        for row, stamp in earned
    )


async def _all_pages(partner: Partner, path: str, **body: Any) -> AsyncIterator[dict[str, Any]]:
    cursor = ""
    while True:
        asked = f"{path}?page_size=500" + (f"&cursor={cursor}" if cursor else "")
        answer = await partner.post(asked, **body)
        for row in answer["conversions"]:
            yield row
        cursor = answer["paging"].get("next_cursor", "")
        if not cursor:
            return


async def _conversions(partner: Partner, facts: Facts, chance: random.Random) -> None:
    """Raw rows, each as it stands, in order; some of them by their ids."""
    for path, flags, kinds in (
        ("conversions", {"show_events": False}, (False,)),
        ("conversions", {"show_events": True}, (False, True)),
        ("postconversions", {}, (True,)),
    ):
        wanted = [each for each in facts.listed(recount.is_listed) if each["is_event"] in kinds]
        pages = _all_pages(partner, f"{REPORTING}/{path}", **flags)
        _same_raw([row async for row in pages], wanted)
        answer = await partner.post(f"{REPORTING}/{path}?page_size=1", **flags)
        assert answer["paging"]["total_count"] == len(wanted)
    exported = await partner.post(f"{REPORTING}/conversions/export", format="json")
    by_id = sorted(exported["conversions"], key=lambda row: row["conversion_id"])
    wanted = sorted(facts.listed(recount.is_listed), key=lambda body: body["conversion_id"])
    _same_raw(by_id, wanted)
    lines = await partner.csv(f"{REPORTING}/conversions/export")
    assert sorted((line["conversion_id"], Decimal(line["revenue"])) for line in lines) == [
        (body["conversion_id"], body["revenue"]) for body in wanted
    ]
    bodies = sorted(facts.conversions.values(), key=lambda body: body["conversion_id"])
    for body in chance.sample(bodies, min(6, len(bodies))):
        is_shown = recount.is_listed(body)
        row = await partner.get(f"{REPORTING}/conversions/{body['conversion_id']}", found=is_shown)
        if is_shown:
            _same_raw([row], [body])


def _same_raw(rows: Sequence[Mapping[str, Any]], wanted: Sequence[Body]) -> None:
    assert len(rows) == len(wanted)
    for row, body in zip(rows, wanted, strict=True):
        plain = {name: value for name, value in row.items() if name != "relationship"}
        assert plain == {
            name: body.get(name) or _nothing(name, value) for name, value in plain.items()
        }
        offer = row["relationship"]["offer"]
        assert {name: offer[name] for name in body["relationship"]["offer"]} == body[
            "relationship"
        ]["offer"]


def _nothing(name: str, shown: Any) -> Any:
    """What a row says of a field that its record leaves out or empty."""
    if name == "error_message":
        return "N/A"
    return "" if isinstance(shown, str) else 0


async def _held(partner: Partner, facts: Facts, chance: random.Random) -> None:
    """Times on hold, by how they stand; some by their ids."""
    for status in ("", "on_hold", "approved", "rejected"):
        wanted = facts.listed(
            lambda body, status=status: (
                "hold" in body and not body["is_scrub"] and status in ("", body["hold"]["status"])
            )
        )
        body = {"show_conversions": True, "on_hold_status_filter": status}
        pages = _all_pages(partner, f"{REPORTING}/onhold", **body)
        rows = [row async for row in pages]
        assert [row["on_hold_conversion_id"] for row in rows] == [
            each["hold"]["on_hold_conversion_id"] for each in wanted
        ]
        for row, each in zip(rows, wanted, strict=True):
            _same_held(row, each)
    for each in chance.sample(wanted, min(2, len(wanted))):
        path = f"{REPORTING}/onhold/{each['hold']['on_hold_conversion_id']}"
        _same_held(await partner.get(path), each)


def _same_held(row: Mapping[str, Any], body: Body) -> None:
    hold = {name: value for name, value in row.items() if name not in ("network_id", "conversion")}
    assert hold == body["hold"]
    _same_raw([row["conversion"]], [body])


async def _clicks(partner: Partner, facts: Facts, chance: random.Random) -> None:
    """The newest clicks, whole; some by their ids, old ones only if they converted."""
    bounds = _days(-12, 1)
    since = int(
        datetime.combine(date.fromisoformat(bounds["from"]), datetime.min.time(), UTC).timestamp()
    )
    wanted = facts.newest_clicks(since, 2**40)
    for path in ("clicks", "clicks/stream"):
        answer = await partner.post(f"{REPORTING}/{path}", **bounds)
        assert answer["incomplete_results"] == (len(wanted) > 5_000)
        _same_raw(answer["clicks"], wanted[:5_000])
    converted = {body["transaction_id"] for body in facts.conversions.values()}
    visible_since = time.time() - 92 * recount.DAY
    bodies = sorted(facts.clicks.values(), key=lambda body: body["transaction_id"])
    for body in chance.sample(bodies, min(8, len(bodies))):
        key = body["transaction_id"]
        is_shown = body["unix_timestamp"] >= visible_since or key in converted
        row = await partner.get(f"{REPORTING}/clicks/{key}", found=is_shown)
        if is_shown:
            _same_raw([row], [body])


async def _changes(partner: Partner, facts: Facts) -> None:
    """A copy kept by polling through all of it equals the ledger; each version is told once."""
    while await partner.poll_changes():
        pass
    assert partner.told == Counter(dict.fromkeys(facts.versions, 1))
    assert partner.copy.keys() == facts.conversions.keys()
    for key, body in facts.conversions.items():
        change = partner.copy[key]
        assert change["version"] == body["version"]
        assert change["is_counted"] == recount.is_listed(body)
        assert (change["status"], change["hold"]) == (body["status"], body.get("hold"))
        _same_raw([change["conversion"]], [body])


async def _pages_while_rows_change(log: Log, partner: Partner) -> None:
    """No row that does not change is skipped or repeated, whatever the others do."""
    facts = log.facts[partner.scope]
    before = dict(facts.conversions)
    unchanged = {key for key, body in before.items() if recount.is_listed(body)}
    seen: Counter[str] = Counter()
    cursor, size = "", max(1, len(unchanged) // 4)
    while True:
        path = f"{REPORTING}/conversions?page_size={size}" + (f"&cursor={cursor}" if cursor else "")
        answer = await partner.post(path)
        seen.update(row["conversion_id"] for row in answer["conversions"])
        cursor = answer["paging"].get("next_cursor", "")
        if not cursor:
            break
        changes = log.history.changes(facts.conversions, partner.scope, 0.05)
        unchanged -= {sent.body["conversion_id"] for sent in changes}
        await log.send(changes)
        await partner.caught_up(log.sent_at)
    assert unchanged
    assert {key: seen[key] for key in unchanged} == dict.fromkeys(unchanged, 1)
    assert max(seen.values()) == 1
