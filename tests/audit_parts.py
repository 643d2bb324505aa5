"""What the audit tests share: the service in this process, callers, events, and a recount."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.local import secrets
from deploy.local.ports import free_ports
from services.audit import app, domain, handlers
from services.audit.checkpoints import load_public_key
from services.audit.verify import VerifyReport, verify_trail
from shared import events, topics
from shared.clock import SystemClock
from shared.identity import HEADER, Identity, IdentitySigner
from shared.kafka import open_producer
from shared.runtime import Service, serve
from shared.tokens import AUDIT_READ, Caller, issue_token
from tests.projection_parts import read_all

DEADLINE_SECONDS = 60.0
ACTOR = events.Actor(subject="user-7", name="Ada")


def network() -> int:
    """A network that no other test has."""
    return random.randrange(10**9, 2**52)


@dataclass
class Platform:
    """Where a test's audit service finds what it needs."""

    bootstrap: str
    database_url: str
    schema: str
    home: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])

    worker_port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        self.secrets = secrets.ensure(self.home / "secrets")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker_url(self) -> str:
        return f"http://127.0.0.1:{self.worker_port}"

    @property
    def checkpoints(self) -> Path:
        return self.home / "checkpoints"

    def environment(self, **more: str) -> dict[str, str]:
        """What the service's process reads."""
        return {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "DATABASE_URL": self.database_url,
            "PORTICO_HOME": str(self.home),
            "IDENTITY_SECRETS": self.secrets.identity,
            "JWT_JWKS": str(self.secrets.jwks),
            "AUDIT_PORT": str(self.port),
            "AUDIT_DB_SCHEMA": self.schema,
            "AUDIT_CHECKPOINT_DIR": str(self.checkpoints),
            "AUDIT_SIGNING_KEY_FILE": str(self.secrets.audit_key),
            "AUDIT_CHECKPOINT_SECONDS": "0.2",
            "AUDIT_HEARTBEAT_SECONDS": "1",
            "AUDIT_DRAIN_SECONDS": "3",
            "ANOMALIES_PORT": str(self.worker_port),
            "ANOMALIES_APP_ID": f"{self.schema}.worker",
            "ANOMALIES_DRAIN_SECONDS": "3",
        } | more

    def token(self, caller: Caller) -> str:
        """A bearer token that speaks for `caller`."""
        return issue_token(
            self.secrets.token_key.read_bytes(),
            caller,
            key_id=secrets.TOKEN_KEY_ID,
            issuer="portico-local",
            audience="portico",
            now=SystemClock().time(),
        )

    def headers(self, url: str, caller: Caller | None) -> dict[str, str]:
        """What the gateway sends with a request that `caller` makes."""
        now = SystemClock().time()
        identity = Identity(
            request_id="request-1",
            client_ip="192.0.2.1",
            method="GET",
            path=urlsplit(url).path,
            expires_at=int(now) + 30,
        )
        found = {HEADER: IdentitySigner(self.secrets.identity).sign(identity)}
        if caller is not None:
            found["authorization"] = f"Bearer {self.token(caller)}"
        return found

    async def get(self, url: str, caller: Caller | None, **more: str) -> httpx.Response:
        """The answer to a GET of `url` by `caller`."""
        async with httpx.AsyncClient(verify=False, base_url=self.url, timeout=30) as client:
            return await client.get(url, headers=self.headers(url, caller) | more)

    async def verify(self) -> VerifyReport:
        """The offline verification of the whole trail."""
        return await verify_trail(
            self.database_url,
            self.schema,
            self.checkpoints,
            load_public_key(self.secrets.audit_key),
        )


def reader(network_id: int, *permissions: str, partner: int = 0) -> Caller:
    """Somebody who may read the audit trail of one network."""
    return Caller(
        "auditor",
        network_id=network_id,
        network_affiliate_id=partner,
        permissions=frozenset(permissions or (AUDIT_READ,)),
    )


@asynccontextmanager
async def running(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, **more: str
) -> AsyncIterator[None]:
    """The audit service, ready, until the block ends; then drained."""
    for name, value in platform.environment(**more).items():
        monkeypatch.setenv(name, value)
    async with serving(platform.url, app.build()):
        yield


_numbers = itertools.count(1)


def issued(network_id: int, partner: int = 2, key_id: str = "", **more: object) -> events.KeyIssued:
    """A key event that no other is equal to."""
    number = next(_numbers)
    return events.KeyIssued(
        network_id=network_id,
        network_affiliate_id=partner,
        occurred_at=1_767_225_600.0 + number,
        actor=ACTOR,
        key_id=key_id or f"key-{number}",
        masked="aff_…abcd",
        integration="crm",
        **more,
    )


def refused(
    network_id: int, partner: int = 2, *, count: int = 1, second: int = 1_767_225_600
) -> events.AccessSummary:
    """A second in which one key met its rate limit `count` times, and was served once."""
    common = {
        "key_id": "key-1",
        "masked": "aff_…abcd",
        "method": "GET",
        "endpoint": "/v1/affiliates/network",
        "client_ip": "192.0.2.1",
    }
    return events.AccessSummary(
        gateway="gateway-1",
        second=second,
        network_id=network_id,
        network_affiliate_id=partner,
        counts=(
            events.AccessCount(**common, status=429, count=count, refusal="rate limit"),
            events.AccessCount(**common, status=200, count=1),
        ),
    )


def session(network_id: int, partner: int = 2) -> events.SessionOpened:
    """A stream that was opened."""
    return events.SessionOpened(
        session_id=f"session-{next(_numbers)}",
        network_id=network_id,
        network_affiliate_id=partner,
        key_id="key-1",
        masked="aff_…abcd",
        client_ip="192.0.2.1",
        occurred_at=1_767_225_700.0,
        types=("clicks",),
        start="latest",
    )


_TOPICS = {
    events.KeyIssued: topics.KEYS_EVENTS,
    events.AccessSummary: topics.GATEWAY_ACCESS,
    events.SessionOpened: topics.FIREHOSE_SESSIONS,
}


async def send(
    bootstrap: str, found: Iterable[domain.AuditedEvent], *, times: int = 1
) -> list[str]:
    """Append each event `times` times, always under the same id; the ids in order."""
    async with open_producer(bootstrap, client_id="test", linger_ms=5) as producer:
        ids, waiting = [], []
        for event in found:
            ids.append(f"test-{random.getrandbits(64):016x}")
            for _ in range(times):
                waiting.append(
                    await producer.send(
                        _TOPICS[type(event)].name,
                        events.encode(event),
                        key=events.partner_key(
                            event.network_id, event.network_affiliate_id
                        ).encode(),
                        headers=events.headers(
                            event, source="test", occurred_at=0.0, event_id=ids[-1]
                        ),
                    )
                )
        for future in waiting:
            await future
    return ids


async def expected_ids(bootstrap: str, network_id: int) -> Counter[str]:
    """The ids of the entries that the log says a network's trail must have, each once."""
    found: set[str] = set()
    for topic in handlers.TRAIL_TOPICS:
        for record in await read_all(bootstrap, topic.name):
            if (record.key or b"").startswith(b"%d:" % network_id):
                event = handlers.check_audited(record)
                identifier = events.envelope(record.headers).id
                found |= {draft.event_id for draft in domain.drafts(identifier, event)}
    return Counter(found)


async def anomalies(bootstrap: str, network_id: int) -> list[tuple[str, domain.Anomaly]]:
    """Every anomaly of a network on the topic as (`ce_id`, event), repeats included."""
    return [
        (events.envelope(record.headers).id, event)
        for record in await read_all(bootstrap, topics.AUDIT_ANOMALIES.name)
        if (event := handlers.check_anomaly(record)).network_id == network_id
    ]


async def until_anomalies(
    bootstrap: str, network_id: int, kinds: list[type[events.Event]]
) -> list[tuple[str, domain.Anomaly]]:
    """Wait for anomalies of just these kinds, in order, repeats under the same id left out."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = await anomalies(bootstrap, network_id)
            if [type(event) for event in dict(found).values()] == kinds:
                return found
            await asyncio.sleep(0.05)


async def entries(platform: Platform, caller: Caller, query: str = "") -> list[dict]:
    """Every entry that a search finds, over all its pages, newest first."""
    found: list[dict] = []
    cursor = ""
    while True:
        url = f"/v1/audit/entries?limit=200{query}{cursor}"
        answer = await platform.get(url, caller)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["entries"]
        if page["paging"]["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['paging']['next_cursor']}"


async def until_entries(platform: Platform, caller: Caller, count: int) -> list[dict]:
    """Wait for a trail of `count` entries."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found := await entries(platform, caller)) < count:
            await asyncio.sleep(0.05)
    return found


async def messages(answer: httpx.Response) -> AsyncIterator[tuple[str, str, dict]]:
    """The (event, id, data) of a stream of server-sent events; heartbeats are left out."""
    kind, identifier, data = "message", "", ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "id":
            identifier = value
        elif name == "data":
            data = value
        elif not line and data:
            yield kind, identifier, json.loads(data)
            kind, data = "message", ""


# --- processes ------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(url: str, service: Service) -> AsyncIterator[None]:
    """`service` in this process, ready, until the block ends; then drained."""
    stop = asyncio.Event()
    work = asyncio.ensure_future(serve(service, stop))
    readying = asyncio.ensure_future(until_ready(url))
    try:
        await asyncio.wait({work, readying}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        await readying
        yield
    finally:
        readying.cancel()
        stop.set()
        await work


async def until_ready(url: str) -> None:
    """Wait until `/readyz` says yes."""
    async with (
        httpx.AsyncClient(verify=False, base_url=url) as client,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


class Child:
    """A process of `python -m module` that a test may kill; its log is in `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def death(self) -> int:
        """Wait for the end; the exit status, or minus the signal."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._process.wait()

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text()


@asynccontextmanager
async def child(
    module: str, environment: dict[str, str], log: Path, *, crash_at: str = ""
) -> AsyncIterator[Child]:
    """A child process, killed at the end of the block if it still lives."""
    variables = {**os.environ, **environment}
    if crash_at:
        variables["PORTICO_CRASH_AT"] = crash_at
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, env=variables, stdout=output, stderr=output
        )
    try:
        yield Child(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
