"""The table of keys at 100,000 keys in one network: first and last page over HTTP, 100 rows each.

The pages are asked for in turns from the service's own process, as the gateway asks, over one
connection; each figure is the 95th percentile of a round, the median of the rounds. What they are
compared to, in the same run: the first page to its bare statement, the other pages to the first
page, so that a ratio near 1 says that a page costs the same wherever it lies.
"""

import json
import random
import statistics
import time
from dataclasses import dataclass

import aiohttp
import asyncpg

from shared import topics
from shared.clock import SystemClock
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured
from tests.keys_parts import Platform, network, running, staff
from tests.keys_table_parts import Stored, key_id, name_partner, put
from tests.projection_parts import create

FIRST, LAST = "keys.first_page_p95_ms", "keys.last_page_p95_ms"
LAST_USED, ACTIVE = "keys.last_used_page_p95_ms", "keys.active_page_p95_ms"
NAMES = (FIRST, LAST, LAST_USED, ACTIVE)
KEYS = 100_000
PARTNERS = 500
ROUNDS = 7
ASKED = 100
"""Requests of each kind a round."""
PAGE_ROWS = 100
TABLE = "/v1/networks/apikeys"
NOW = SystemClock().time()

# The rows of the first page as plainly as Postgres can give them, without use, names or warnings.
BARE = """
SELECT key_id, network_affiliate_id, integration, masked, status, allowlist, created_at, created_by,
    created_by_name, not_before, expires_at, ended_at, predecessor_key_id, successor_key_id
FROM keys WHERE network_id = $1 ORDER BY created_at DESC, key_id DESC LIMIT $2"""


@dataclass
class Asking:
    """One member of staff at one service, over one connection."""

    platform: Platform
    network_id: int
    client: aiohttp.ClientSession

    async def page(self, question: str) -> tuple[bytes, float]:
        """The body of a page and how many milliseconds it took; the token was made before."""
        headers = self.platform.headers("GET", TABLE, staff(self.network_id))
        began = time.perf_counter()
        async with self.client.get(f"{TABLE}?{question}", headers=headers) as answer:
            body = await answer.read()
        assert answer.status == 200, body
        return body, (time.perf_counter() - began) * 1_000

    async def last_question(self) -> str:
        """What asks for the last page: the cursor of the page before it, walked to."""
        cursor, left = "", KEYS - PAGE_ROWS
        while left:
            rows = min(1_000, left)
            page = json.loads((await self.page(f"limit={rows}{cursor}"))[0])
            cursor, left = f"&cursor={page['paging']['next_cursor']}", left - rows
        question = f"limit={PAGE_ROWS}{cursor}"
        page = json.loads((await self.page(question))[0])
        assert (len(page["apikeys"]), page["paging"]["next_cursor"]) == (PAGE_ROWS, None)
        return question


async def run(context: Context) -> list[Figure]:
    """Make the keys, start the service, ask."""
    await create(context.kafka_bootstrap, *topics.SOURCES)
    schema = context.unique("bench").replace("-", "_")
    home = context.folder / "keys"
    home.mkdir()
    platform = Platform(context.kafka_bootstrap, context.database_url, schema, home)
    # Rows made by hand are in no topic; a comparison would publish them all.
    with running(platform, KEYS_RECONCILE_SECONDS="86400"):
        network_id = network()
        await _fill(platform, network_id)
        async with aiohttp.ClientSession(platform.url) as client:
            return await _measured(Asking(platform, network_id, client))


async def _fill(platform: Platform, network_id: int) -> None:
    """Keys of all ages, a third of them active, used at any time."""
    dice = random.Random(1)
    connection = await _connected(platform)
    for number in range(1, PARTNERS + 1):
        await name_partner(connection, network_id, number, f"Partner {number}")
    for batch in range(0, KEYS, 10_000):
        rows = [_key(dice, network_id, batch + number) for number in range(10_000)]
        await put(connection, rows)
    await connection.execute("ANALYZE keys, key_usage, partners")  # as autovacuum does
    await connection.close()


def _key(dice: random.Random, network_id: int, number: int) -> Stored:
    is_active = number % 3 == 0
    return Stored(
        network_id=network_id,
        key_id=key_id(),
        network_affiliate_id=dice.randint(1, PARTNERS),
        integration=f"app {number}",
        status="active" if is_active else "revoked",
        created_at=NOW - dice.uniform(0, 400) * 86_400,
        ended_at=None if is_active else NOW,
        expires_at=dice.choice([None, NOW + dice.uniform(1, 400) * 86_400]),
        used_at=dice.choice([0.0, NOW - dice.uniform(0, 400) * 86_400]),
    )


async def _connected(platform: Platform) -> asyncpg.Connection:
    settings = {"search_path": platform.schema}
    return await asyncpg.connect(platform.database_url, server_settings=settings)


async def _measured(asking: Asking) -> list[Figure]:
    questions = {
        FIRST: f"limit={PAGE_ROWS}",
        LAST: await asking.last_question(),
        LAST_USED: f"limit={PAGE_ROWS}&sort=-last_used_at",
        ACTIVE: f"limit={PAGE_ROWS}&status=active",
    }
    connection = await _connected(asking.platform)
    rounds: dict[str, list[float]] = {name: [] for name in (*NAMES, "bare")}
    for _ in range(ROUNDS + 1):
        samples: dict[str, list[float]] = {name: [] for name in rounds}
        for _ in range(ASKED):
            for name, question in questions.items():
                samples[name].append((await asking.page(question))[1])
            samples["bare"].append(await _bare(connection, asking.network_id))
        for name, found in samples.items():
            rounds[name].append(statistics.quantiles(found, n=20)[-1])
    await connection.close()
    warm = {name: found[1:] for name, found in rounds.items()}
    return [
        measured(name, "ms", warm[name], warm["bare" if name == FIRST else FIRST]) for name in NAMES
    ]


async def _bare(connection: asyncpg.Connection, network_id: int) -> float:
    began = time.perf_counter()
    await connection.fetch(BARE, network_id, PAGE_ROWS)
    return (time.perf_counter() - began) * 1_000
