"""Protects the first goal: whatever a partner asks, nothing of another partner's answers it.

Two partners ask everything they can, by their own ids and by those of a third who is not there yet.
Then the third has facts, offers and links. The first two ask the same again and get the same; the
third, asking with those very requests, gets what is theirs. The service's role in Postgres is no
superuser, so that row-level security holds for every one of these requests.
"""

import asyncio
import gzip
import inspect
import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec
import pytest

from services.reporting.catalog.handlers import TOPICS as CATALOG
from services.reporting.config import ReportingSettings
from services.reporting.facts import views
from services.reporting.facts.tables import CHANGES, TABLE_OF_TOPIC
from shared import topics
from shared.clickhouse import ClickHouse
from shared.kafka import open_producer
from shared.routes import of_service
from tests import projection_parts
from tests.backends import ROOT
from tests.reporting_service import call, running, settings_of, through_of
from tests.scope_parts import JOBS, PROBES, Ask, Owner, facts, job, things

NOW = int(time.time())
NETWORK = random.Random(time.time_ns()).randrange(10**6, 10**9)
"""Of this run alone: the topics are the real ones."""
A = Owner(NETWORK, 10, "alpha7q", 9173.123451, NOW)
B = Owner(NETWORK, 11, "bravo8w", 28.000007, NOW)
STRANGER = Owner(NETWORK + 1, 10, "sierra9e", 55.000011, NOW)
READ = (*topics.TRACKING.values(), topics.NETWORK_RATES, *CATALOG)
ROUTES = {(route.method, route.template) for route in of_service("reporting")}
SERVED = {route: probe for route, probe in PROBES.items() if route in ROUTES}
FACT_TABLES = (*TABLE_OF_TOPIC.values(), CHANGES)


# --- the parts ------------------------------------------------------------------------------------


@pytest.fixture
async def ordinary_url(database_url: str, schema: str) -> AsyncIterator[str]:
    """The database as a role that may make its own schema and nothing else."""
    role = f"{schema}_service"
    superuser = await asyncpg.connect(database_url)
    await superuser.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}' NOSUPERUSER NOBYPASSRLS")
    database = await superuser.fetchval("SELECT current_database()")
    await superuser.execute(f'GRANT CREATE ON DATABASE "{database}" TO {role}')
    parts = urlsplit(database_url)
    place = parts.netloc.rpartition("@")[2]
    yield parts._replace(netloc=f"{role}:{role}@{place}").geturl()
    await superuser.execute(f"DROP OWNED BY {role} CASCADE")
    await superuser.execute(f"DROP ROLE {role}")
    await superuser.close()


@pytest.fixture
def settings(
    kafka_bootstrap: str, ordinary_url: str, schema: str, clickhouse_folder: Path, database: str
) -> ReportingSettings:
    return settings_of(kafka_bootstrap, ordinary_url, schema, (clickhouse_folder, database))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, Any]]]:
    """Every query that reaches ClickHouse, with its parameters; each still runs."""
    seen: list[tuple[str, Mapping[str, Any]]] = []
    for name, method in inspect.getmembers(ClickHouse, inspect.isfunction):
        signature = inspect.signature(method)
        if "sql" in signature.parameters and "parameters" in signature.parameters:
            monkeypatch.setattr(ClickHouse, name, _noting(method, signature, seen))
    return seen


def _noting(method: Any, signature: inspect.Signature, seen: list[Any]) -> Any:
    def noted(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments
        seen.append((bound["sql"], bound.get("parameters") or {}))
        return method(*args, **kwargs)

    return noted


async def produce(bootstrap: str, *owners: Owner) -> None:
    """What the network's platform and tracker say of these partners."""
    async with open_producer(bootstrap, client_id="test") as producer:
        for owner in owners:
            profile = {"network_id": owner.network_id, "version": 1, "displayed_name": "Network"}
            named = [(topics.NETWORK_PROFILE, str(owner.network_id), profile), *things(owner)]
            key = f"{owner.network_id}:{owner.partner_id}"
            for topic, where, value in [*named, *((t, key, value) for t, value in facts(owner))]:
                body = msgspec.json.encode(value)
                await producer.send_and_wait(topic.name, key=where.encode(), value=body)


async def until_told(client: httpx.AsyncClient, owner: Owner) -> None:
    """Wait until answers hold all that was produced before."""
    sent = time.time()
    for path in ("/v1/affiliates/network", "/v1/meta/cities"):
        deadline = time.monotonic() + 60
        while True:
            answer = await call(client, "GET", path, **owner.asker)
            if answer.status_code == 200 and through_of(answer) > sent + 1:
                break
            assert time.monotonic() < deadline, f"{path}: {answer.text}"
            await asyncio.sleep(0.05)


async def ask(
    client: httpx.AsyncClient, route: tuple[str, str], one: Ask, asker: Owner
) -> httpx.Response:
    method, template = route
    path = template.format_map(dict(one.path))
    answer = await call(client, method, path, one.body, query=one.query, **asker.asker)
    assert answer.status_code in (200, 400, 404), f"{route}: {answer.status_code} {answer.text}"
    return answer


def lasting(answer: httpx.Response, volatile: frozenset[str]) -> Any:
    """Status and body without the members that move by themselves."""
    try:
        body = answer.json()
    except json.JSONDecodeError:
        return answer.status_code, answer.text
    return answer.status_code, _without(body, volatile)


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(one, names) for name, one in value.items() if name not in names}
    return [_without(one, names) for one in value] if isinstance(value, list) else value


Answers = dict[tuple[tuple[str, str], str], Any]


async def answers_to(client: httpx.AsyncClient, asker: Owner) -> Answers:
    """What `asker` is answered to everything, by their own ids and by A's; nothing in it is A's."""
    found: Answers = {}
    for route, probe in SERVED.items():
        asks = {repr(one): one for owner in (asker, A) for one in probe.asks(owner)}
        for name, one in asks.items():
            answer = await ask(client, route, one, asker)
            _shows_nothing_of(A, answer, route, one)
            found[route, name] = lasting(answer, probe.volatile)
    return found


def _shows_nothing_of(owner: Owner, answer: httpx.Response, route: object, one: Ask) -> None:
    text = answer.text + repr(answer.headers.multi_items())
    shown = [mark for mark in owner.marks if mark in text]
    assert not shown, f"{route} {one}: {shown} in {text[:2_000]}"


def _is_shown(owner: Owner, answer: httpx.Response) -> bool:
    return any(mark in answer.text for mark in owner.marks)


# --- the tests ------------------------------------------------------------------------------------


def test_every_route_of_reporting_has_its_probe() -> None:
    """A route that nobody has said how to call is a route whose scope nobody has tried."""
    assert ROUTES - set(PROBES) - JOBS == set()


async def test_no_request_is_answered_with_anything_of_another_partners(
    kafka_bootstrap: str,
    settings: ReportingSettings,
    asked: list[tuple[str, Mapping[str, Any]]],
) -> None:
    """Same network and another; ids, filters, searches, columns and cursors of the other's."""
    await projection_parts.create(kafka_bootstrap, *READ)
    async with running(settings) as client:
        await _has_no_way_around_the_policies(settings)
        await produce(kafka_bootstrap, B, STRANGER)
        for owner in (B, STRANGER):
            await until_told(client, owner)
        before = {asker.mark: await answers_to(client, asker) for asker in (B, STRANGER)}
        await produce(kafka_bootstrap, A)
        await until_told(client, A)
        await _owner_sees_what_is_theirs(client, A)
        await _owner_sees_what_is_theirs(client, B)
        for asker in (B, STRANGER):
            after = await answers_to(client, asker)
            moved = [where for where in after if after[where] != before[asker.mark][where]]
            assert not moved, f"{moved[0]}: {before[asker.mark][moved[0]]} -> {after[moved[0]]}"
            await _cursors_lead_nowhere(client, asker)
        await _jobs_are_their_owners_alone(client)
    _every_query_was_scoped(asked)


async def _has_no_way_around_the_policies(settings: ReportingSettings) -> None:
    """The control: without a scope this role sees no row, although it owns the tables."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        role = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )
        assert tuple(role) == (False, False)
        tables = await connection.fetch(
            "SELECT relname, relrowsecurity AND relforcerowsecurity AS holds FROM pg_class"
            " WHERE relnamespace = $1::regnamespace AND relkind = 'r'",
            settings.db_schema,
        )
        open_tables = {table["relname"] for table in tables if not table["holds"]}
        assert open_tables <= UNSCOPED
        assert {"offers", "offer_partners", "networks", "partners", "referrals"} <= {
            t["relname"] for t in tables
        }
        for table in {t["relname"] for t in tables} - open_tables:
            count = f'SELECT count(*) FROM "{settings.db_schema}".{table}'
            await connection.execute(f'SET search_path TO "{settings.db_schema}"')
            assert await connection.fetchval(count) == 0, table
    finally:
        await connection.close()


UNSCOPED = {"projection_offsets", "schema_migrations"}
"""Tables that hold nothing of any partner."""


async def _owner_sees_what_is_theirs(client: httpx.AsyncClient, owner: Owner) -> None:
    """The control: each of these requests does find something, if it is the owner who asks."""
    for route, probe in SERVED.items():
        answers = [await ask(client, route, one, owner) for one in probe.asks(owner)]
        assert any(_is_shown(owner, answer) for answer in answers) is probe.shows, route


async def _cursors_lead_nowhere(client: httpx.AsyncClient, asker: Owner) -> None:
    """A cursor that A was given shows another partner nothing of A's."""
    for route, probe in SERVED.items():
        if probe.cursor:
            first = probe.asks(A)[0]
            cursor = await _cursor_of(client, route, first)
            onward = Ask(first.path, {**first.query, probe.cursor: cursor}, first.body)
            answer = await ask(client, route, onward, asker)
            _shows_nothing_of(A, answer, route, onward)


async def _jobs_are_their_owners_alone(client: httpx.AsyncClient) -> None:
    """Another's job is in no list, is not found, and is not deleted by who may not see it."""
    path = "/v1/affiliates/reporting/exports"
    made = await call(client, "POST", path, job(A), **A.asker)
    assert made.status_code == 202, made.text
    one = f"{path}/{made.json()['export_id']}"
    deadline = time.monotonic() + 60
    while (state := (await call(client, "GET", one, **A.asker)).json()["state"]) != "done":
        assert time.monotonic() < deadline, state
        await asyncio.sleep(0.05)
    for asker in (B, STRANGER):
        listed = await call(client, "GET", path, **asker.asker)
        assert listed.status_code == 200
        assert made.json()["export_id"] not in listed.text
        for method, where in (("GET", one), ("GET", f"{one}/download"), ("DELETE", one)):
            refused = await call(client, method, where, **asker.asker)
            assert (refused.status_code, refused.json()["error"]) == (404, "Not Found"), where
    assert made.json()["export_id"] in (await call(client, "GET", path, **A.asker)).text
    file = await call(client, "GET", f"{one}/download", **A.asker)
    assert A.hex_id("click") in gzip.decompress(file.content).decode()
    assert (await call(client, "DELETE", one, **A.asker)).status_code == 204


async def _cursor_of(client: httpx.AsyncClient, route: tuple[str, str], first: Ask) -> str:
    answer = await ask(client, route, Ask(first.path, {"page_size": 1}, first.body), A)
    body = answer.json()
    cursor = body.get("paging", body).get("next_cursor")
    assert cursor, f"{route}: {answer.text}"
    return str(cursor)


def _every_query_was_scoped(asked: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """None read a table of facts but in a view of an asker, whom its parameters name."""
    owners = {(owner.network_id, owner.partner_id) for owner in (A, B, STRANGER)}
    assert len(asked) > len(SERVED)
    for sql, parameters in asked:
        assert not read_directly(sql), sql
        if SCOPED.search(sql):
            assert (parameters["network"], parameters["partner"]) in owners, sql
        else:
            assert all(is_nobodys(source) for source in sources(sql)), sql


def sources(sql: str) -> list[str]:
    """What an SQL text reads."""
    return re.findall(r"(?i)\b(?:from|join)\s+([\w.]+)", sql)


NOBODYS = {"rates"}
"""What ClickHouse has that holds nothing of any partner."""


def is_nobodys(source: str) -> bool:
    """Whether a source holds nothing of any partner: rates, the engine's own, what is switched."""
    return (
        source in NOBODYS
        or source.startswith("system.")
        or source.endswith("_generations.switches")
    )


BOUND = r"(?:0|\{\w+:\w+\})"
NARROWER = rf"(?: AND (?:NOT )?[\w.]+(?: (?:=|[<>]=?) (?:{BOUND}|'\w+'))?)*"
SCOPED = re.compile(
    rf"\b(?:FROM|JOIN) (?:{'|'.join(FACT_TABLES)})(?: AS fact)?(?: FINAL)?"
    r" WHERE network_id = {network:UInt64} AND network_affiliate_id = {partner:UInt64}"
    rf"{NARROWER}(?:\)| GROUP BY \b| LIMIT 1$)"
)
"""A table of facts as the views read it, to their end: of one partner, and nothing widens that."""


def read_directly(text: str) -> list[str]:
    """The tables of facts that an SQL text reads past their scoped views."""
    named = "|".join(FACT_TABLES)
    return re.findall(rf"(?i)\b(?:from|join)\s+(?:\w+\.)?({named})\b", SCOPED.sub("", text))


MAINTENANCE = {"services/reporting/facts/tables.py"}
"""Files that may name the tables: they define them."""


def test_no_file_of_reporting_reads_a_table_of_facts_directly() -> None:
    """The views are the only way in: an SQL text that reads past them stands nowhere."""
    files = sorted((ROOT / "services" / "reporting").rglob("*.py"))
    found = {
        str(file.relative_to(ROOT)): tables
        for file in files
        if (tables := read_directly(file.read_text()))
    }
    assert set(found) <= MAINTENANCE
    assert len(files) > 20


VIEW = str(views.between("clicks"))
PLAIN = views.of_days("clicks", "tally").plainly(["NOT is_scrub"])


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("SELECT 1 FROM clicks WHERE x", ["clicks"]),
        ("select 1 from db.conversions final", ["conversions"]),
        ("SELECT 1 FROM a JOIN impressions USING b", ["impressions"]),
        (f"SELECT 1 FROM {views.of_days('clicks')}", []),
        (f"SELECT clicks FROM {views.of_all_time('conversions')} WHERE a OR b", []),
        (VIEW.replace("{partner:UInt64}", "7"), ["clicks"]),
        (VIEW.replace(" AND date", " OR date"), ["clicks"]),
        (VIEW[:-1] + " OR 1)", ["clicks"]),
        (f"SELECT 1 FROM {views.one('clicks', 'transaction_id')}", []),
        (f"SELECT 1 FROM {views.one('conversions', 'a.b', ' AND NOT fact.c')}", []),
        (f"SELECT 1 FROM {views.one('clicks', 'a', ' OR NOT fact.c')}", ["clicks"]),
        (f"SELECT 1 FROM {views.one('clicks', 'a')} UNION ALL SELECT 1", ["clicks"]),
        (VIEW.replace("network_id = {", "network_id != {"), ["clicks"]),
        (f"SELECT 1 FROM {PLAIN} GROUP BY a", []),
        (f"SELECT 1 FROM {PLAIN} OR 1 GROUP BY a", ["clicks"]),
        (f"SELECT 1 FROM {PLAIN} UNION ALL SELECT 1", ["clicks"]),
    ],
)
def test_reading_past_a_view_is_recognised(text, tables) -> None:
    """The control to the tests above."""
    assert read_directly(text) == tables


@pytest.mark.parametrize("flag", ["1", "is_a OR 1", "NOT (is_a)", "is_a = 1"])
def test_what_might_widen_a_view_is_asked_of_its_rows_alone(flag: str) -> None:
    assert views.of_days("clicks", "tally").plainly([flag]) is None


def test_a_word_is_asked_of_a_view_s_rows_alone() -> None:
    """A table has no column of that name, or another."""
    assert views.of_days("clicks", "country").plainly([]) is None
