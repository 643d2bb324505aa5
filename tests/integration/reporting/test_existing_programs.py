"""Protects the promise to partners: change the base URL and the key, and the program runs.

The programs of `tests.existing_programs` run against a real gateway with the real service behind
it, on facts whose totals are added up here. One start serves them all.
"""

import asyncio
import gzip
import hashlib
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from deploy.local.ports import free_ports
from services.reporting.app import build
from services.reporting.catalog.handlers import TOPICS as CATALOG
from services.reporting.config import ReportingSettings
from shared import topics
from shared.events import Budget
from shared.kafka import open_producer
from shared.partner_key import generate
from shared.runtime import serve
from tests import projection_parts
from tests.existing_programs import (
    PAGINGS,
    Account,
    Attribution,
    ConversionLoader,
    CsvImport,
    KeyCheck,
    OfferFeed,
    Poller,
    RevenueSheet,
    Widget,
    exactly,
)
from tests.gateway_parts import KEY, SECRET, Gate, Partner, gate, open_gateway
from tests.reporting_service import moment, settings_of

NOW = int(time.time())
DAY = 86_400
MIDNIGHT = NOW // DAY * DAY
NETWORK = random.Random(time.time_ns()).randrange(10**6, 10**9)
"""Of this run alone: the topics of the network are the real ones."""
PARTNER = 7
CLICKS, CONVERSIONS = 60, 130
AMPLE = Budget(rate=100_000, burst=100_000)
SCARCE = Budget(rate=1, burst=1)
SCARCE_KEY = generate()
"""Of another network, whose budget is soon spent."""


# --- what the partner has -------------------------------------------------------------------------


def master_data() -> list[tuple[topics.Topic, str, dict[str, Any]]]:
    """A network, its partner, and offers of every standing."""
    network = {"network_id": NETWORK, "version": 1}
    profile = {"displayed_name": "Northwind", "default_tracking_domain": "go.example"}
    partner = {"network_affiliate_id": PARTNER, "name": "Cedar", "link_code": "9W598"}
    found = [
        (topics.NETWORK_PROFILE, f"{NETWORK}", network | profile),
        (topics.NETWORK_PARTNERS, f"{NETWORK}:{PARTNER}", network | partner),
    ]
    scarce = {"network_id": NETWORK + 1, "version": 1, "displayed_name": "Scarce"}
    found.append((topics.NETWORK_PROFILE, f"{NETWORK + 1}", scarce))
    found += [
        (topics.NETWORK_OFFERS, f"{NETWORK}:{number}", network | offer(number))
        for number in range(1, 8)
    ]
    return found


def offer(number: int) -> dict[str, Any]:
    """Offers 1 to 5 are public, 6 takes an approval, 7 is private; 2 is linked directly."""
    return {
        "network_offer_id": number,
        "name": f"Offer {number}",
        "visibility": {6: "require_approval", 7: "private"}.get(number, "public"),
        "link_code": f"2CTP{number}",
        "is_use_direct_linking": number == 2,
        "landing_page_url": "https://shoes.example/" if number == 2 else "",
        "urls": [{"network_offer_url_id": 40 + number, "name": "Sale"}],
        "payouts": [
            {"network_offer_payout_revenue_id": 1, "entry_name": "Lead", "is_default": False},
            {"network_offer_payout_revenue_id": 2, "payout_amount": 25.996},
        ],
        "ruleset": {"countries": [{"label": "United States", "code": "US"}]},
        "email": {"subject_lines": "One\nTwo"},
    }


class Facts:
    """Seeded clicks and conversions of the last days, and their sums by plain addition."""

    def __init__(self) -> None:
        dice = random.Random(20)
        self.clicks = [self._click(dice, number) for number in range(CLICKS)]
        self.conversions = [self._conversion(dice, number) for number in range(CONVERSIONS)]

    def _common(self, number: int, offer_id: int, sub1: str) -> dict[str, Any]:
        return {
            "network_id": NETWORK,
            "network_affiliate_id": PARTNER,
            "transaction_id": f"{number:032x}",
            "currency_id": "USD",
            "sub1": sub1,
            "relationship": {
                "offer": {
                    "network_offer_id": offer_id,
                    "network_id": NETWORK,
                    "name": f"Offer {offer_id}",
                }
            },
        }

    def _click(self, dice: random.Random, number: int) -> dict[str, Any]:
        stamp = MIDNIGHT - dice.randrange(1, 5 * DAY)
        common = self._common(number, dice.randrange(1, 6), dice.choice(("", "mail", "blog")))
        return common | {"unix_timestamp": stamp, "is_unique": dice.choice((0, 1))}

    def _conversion(self, dice: random.Random, number: int) -> dict[str, Any]:
        click = self.clicks[number % CLICKS]
        kept = {name: click[name] for name in click if name not in ("unix_timestamp", "is_unique")}
        return kept | {
            "conversion_id": f"{number + 0xC0FFEE:032x}",
            "version": 1,
            "status": "approved",
            "conversion_unix_timestamp": MIDNIGHT - dice.randrange(1, 5 * DAY),
            "revenue": float(Decimal(dice.randrange(1, 90_000_000)).scaleb(-6)),
            "is_event": number % 4 == 0,
        }

    def revenue_by_day(self) -> dict[str, Decimal]:
        """Revenue by ISO date in UTC."""
        found: dict[str, Decimal] = defaultdict(Decimal)
        for one in self.conversions:
            day = datetime.fromtimestamp(one["conversion_unix_timestamp"], tz=UTC)
            found[f"{day:%Y-%m-%d}"] += money(one)
        return dict(found)

    def revenue(self, **wanted: Any) -> Decimal:
        """Revenue of the conversions with these members."""
        return sum(
            (money(one) for one in self.conversions if wanted.items() <= one.items()), Decimal()
        )

    def clicks_by_hour(self) -> dict[int, int]:
        """Clicks by the hour in UTC."""
        found: dict[int, int] = defaultdict(int)
        for one in self.clicks:
            found[one["unix_timestamp"] // 3_600 % 24] += 1
        return dict(found)


def money(conversion: dict[str, Any]) -> Decimal:
    return Decimal(repr(conversion["revenue"]))


FACTS = Facts()


# --- the platform ---------------------------------------------------------------------------------


@asynccontextmanager
async def platform(gateway: Gate, settings: ReportingSettings) -> AsyncIterator[Partner]:
    """The gateway with the reporting service behind it, once answers hold everything produced."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        group.create_task(serve(build(settings), stop))
        upstream = f"http://127.0.0.1:{settings.port}"
        try:
            partner = await stack.enter_async_context(
                open_gateway(gateway, upstream_reporting=upstream)
            )
            await _until_told(partner)
            yield partner
        finally:
            stop.set()


async def _until_told(partner: Partner) -> None:
    sent = time.time()
    async with asyncio.timeout(90):
        for path in ("/v1/affiliates/affiliate", "/v1/meta/cities"):
            while True:
                status, headers, _ = await partner.ask(path, key=KEY)
                if status == 200 and moment(headers["X-Data-Through"]) > sent + 1:
                    break
                await asyncio.sleep(0.05)


async def _produce(bootstrap: str) -> None:
    key = f"{NETWORK}:{PARTNER}"
    values = master_data()
    values += [(topics.CLICKS, key, one) for one in FACTS.clicks]
    values += [(topics.CONVERSIONS, key, one) for one in FACTS.conversions]
    async with open_producer(bootstrap, client_id="test") as producer:
        for topic, where, value in values:
            body = msgspec.json.encode(value)
            await producer.send(topic.name, key=where.encode(), value=body)
        await producer.flush()


@pytest.fixture
def settings(
    kafka_bootstrap: str, database_url: str, schema: str, clickhouse_folder: Path, database: str
) -> ReportingSettings:
    return settings_of(
        kafka_bootstrap,
        database_url,
        schema,
        (clickhouse_folder, database),
        identity_secrets=SECRET,
        port=free_ports(1)[0],
    )


async def test_programs_written_for_the_original_run_after_a_change_of_base_url(
    kafka_bootstrap: str, settings: ReportingSettings, unique
) -> None:
    """Each does what its author meant it to, and finds the figures that its data come to."""
    await projection_parts.create(
        kafka_bootstrap, *topics.TRACKING.values(), topics.NETWORK_RATES, *CATALOG
    )
    await _produce(kafka_bootstrap)
    async with gate(kafka_bootstrap, unique) as gateway:
        of_partner = {"network_id": NETWORK, "network_affiliate_id": PARTNER}
        await gateway.put_key(KEY, **of_partner)
        await gateway.put_network(NETWORK, affiliate=AMPLE)
        await gateway.put_key(SCARCE_KEY, "k2", network_id=NETWORK + 1)
        await gateway.put_network(NETWORK + 1, affiliate=SCARCE)
        async with platform(gateway, settings) as partner:
            since, until = (
                f"{datetime.fromtimestamp(t, tz=UTC):%Y-%m-%d}" for t in (MIDNIGHT - 6 * DAY, NOW)
            )
            account = Account(f"{partner.url}/v1", KEY.reveal(), since, until)
            for program in (sheet, export, widget, loader, feed, check, attribution):
                await asyncio.to_thread(program, account)
            await asyncio.to_thread(archive, account)
            await asyncio.to_thread(poller, replace(account, key=SCARCE_KEY.reveal()))


def sheet(account: Account) -> None:
    """Days, hours and two reports that must agree to the last decimal."""
    program = RevenueSheet(account)
    assert program.revenue_by_day() == FACTS.revenue_by_day()
    by_sub, by_offer = program.totals_agree()
    assert by_sub == by_offer == FACTS.revenue()
    hours = program.clicks_by_hour()
    assert {hour: count for hour, count in hours.items() if count} == FACTS.clicks_by_hour()


def export(account: Account) -> None:
    """The same sums by offer in CSV; nothing where nothing is."""
    program = CsvImport(account)
    by_offer: dict[str, Decimal] = defaultdict(Decimal)
    for one in FACTS.conversions:
        named = one["relationship"]["offer"]
        by_offer[f"{named['network_offer_id']} {named['name']}"] += money(one)
    shown = {name: revenue for name, revenue in program.revenue().items() if revenue}
    assert shown == by_offer
    assert sum(program.revenue("mail").values()) == FACTS.revenue(sub1="mail")
    assert program.revenue("of nobody") == {}


def widget(account: Account) -> None:
    """The summary is of all rows; events are no conversions."""
    conversions = sum(not one["is_event"] for one in FACTS.conversions)
    assert Widget(account).figures() == (FACTS.revenue(), CLICKS, conversions)


def loader(account: Account) -> None:
    """However pages are asked for, each conversion comes once."""
    expected = sorted(one["conversion_id"] for one in FACTS.conversions)
    for name, paging in PAGINGS.items():
        rows = ConversionLoader(account, paging, 50).load()
        assert sorted(row["conversion_id"] for row in rows) == expected, name
        assert sum((Decimal(row["revenue"]) for row in rows), Decimal()) == FACTS.revenue(), name


def feed(account: Account) -> None:
    """Offers with standing, links, payouts, countries; links of every destination."""
    program = OfferFeed(account)
    assert program.everything() == dict.fromkeys(range(1, 6), "public") | {6: "require_approval"}
    shown = program.runnable(2)
    assert [one["id"] for one in shown] == [1, 2, 3, 4, 5]
    assert shown[0] == {
        "id": 1,
        "name": "Offer 1",
        "link": "https://go.example/9W598/2CTP1/",
        "pays": "CPA 25.996",
        "countries": ["US"],
        "subjects": ["One", "Two"],
    }
    assert program.deep_links(1) == [
        "https://go.example/9W598/2CTP1/",
        "https://go.example/9W598/2CTP1/?uid=41",
    ]
    assert program.deep_links(2)[0] == "https://shoes.example/?_ef_transaction_id=&oid=2&affid=7"
    program.close()


def check(account: Account) -> None:
    """A good key tells whose it is; each complaint reads alike for every reader."""
    program = KeyCheck(account)
    assert program.who() == {
        "network_id": NETWORK,
        "network_affiliate_id": PARTNER,
        "displayed_name": "Northwind",
        "name": "Cedar",
    }
    bad, good = {"X-Eflow-API-Key": "nonsense"}, {"X-Eflow-API-Key": account.key}
    for path, headers, expected in (
        ("/affiliates/network", {}, (401, "No Authentication Method Found")),
        (
            "/affiliates/network",
            {"X-Eflow-Key": account.key},
            (401, "No Authentication Method Found"),
        ),
        ("/affiliates/network", bad, (401, "Unable to authenticate request")),
        ("/meta/timezones", bad, (401, "Unable to authenticate request")),
        ("/affiliates/nowhere", bad, (404, "Not Found")),
        ("/affiliates/offers/7", good, (404, "Not Found")),
        ("/networks/apikeys", good, (403, "Out of realm")),
    ):
        status, texts = program.complaint(path, headers)
        assert (status, texts) == (expected[0], {expected[1]}), path


def attribution(account: Account) -> None:
    """Ids as text and as numbers; a click that is not there is not found."""
    program = Attribution(account)
    click = FACTS.clicks[1]
    assert program.source_of(click["transaction_id"]) == click["sub1"]
    assert program.source_of("f" * 32) is None
    assert program.earned("transaction_id", click["transaction_id"]) == FACTS.revenue(
        transaction_id=click["transaction_id"]
    )
    assert program.earned("sub1", "mail") == FACTS.revenue(sub1="mail")
    related = FACTS.clicks[1]["relationship"]
    number = related["offer"]["network_offer_id"]
    for value in (number, str(number)):
        assert program.earned("offer", value) == FACTS.revenue(relationship=related)
    program.close()


def poller(account: Account) -> None:
    """Calls without a pause against one a second: refused, and served after a few short waits."""
    program = Poller(account, (0.2, 0.4, 0.8, 1.6))
    assert program.poll(4) == 4
    assert program.refused > 0


def archive(account: Account) -> None:
    """What the original has not: all rows as a file, fetched through the gateway in ranges."""
    place = "/v1/affiliates/reporting/exports"
    wanted = {
        "kind": "conversions",
        "from": account.since,
        "to": account.until,
        "timezone_id": 67,
        "show_events": True,
    }
    headers = {"X-Eflow-API-Key": account.key}
    origin = account.base.removesuffix("/v1")
    with httpx.Client(base_url=origin, headers=headers, timeout=30) as client:
        made = client.post(place, json=wanted)
        assert made.status_code == 202, made.text
        where = made.headers["Location"]
        deadline = time.monotonic() + 60
        while (job := client.get(where).json())["state"] != "done":
            assert job["state"] in ("queued", "running"), job
            assert time.monotonic() < deadline
            time.sleep(0.1)
        raw, etag = b"", ""
        while len(raw) < job["size"]:
            part = {"Range": f"bytes={len(raw)}-{len(raw) + 999}"}
            part |= {"If-Range": etag} if etag else {}
            answer = client.get(job["download"], headers=part)
            assert answer.status_code == 206, answer.status_code
            raw, etag = raw + answer.content, answer.headers["ETag"]
        beyond = client.get(job["download"], headers={"Range": f"bytes={len(raw)}-"})
        assert beyond.status_code == 416
    assert hashlib.sha256(raw).hexdigest() == job["sha256"]
    rows = [exactly(line) for line in gzip.decompress(raw).splitlines()]
    assert len({row["conversion_id"] for row in rows}) == len(rows) == CONVERSIONS
    assert sum(row["revenue"] for row in rows) == FACTS.revenue()
