"""What the audit tests share: the service in this process, callers, events, and a recount."""

import asyncio
import itertools
import json
import random
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
from shared.runtime import serve
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

    def __post_init__(self) -> None:
        self.secrets = secrets.ensure(self.home / "secrets")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            return await client.get(url, headers=self.headers(url, caller) | more)

    async def verify(self) -> VerifyReport:
        """The offline verification of the whole trail."""
        return await verify_trail(
            self.database_url,
            self.schema,
            self.checkpoints,
            load_public_key(self.secrets.audit_key),
        )

    async def ready(self) -> None:
        """Wait until the service is ready."""
        async with (
            httpx.AsyncClient(base_url=self.url) as client,
            asyncio.timeout(DEADLINE_SECONDS),
        ):
            while True:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)


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
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(app.build(), stop))
    readying = asyncio.ensure_future(platform.ready())
    try:
        await asyncio.wait({serving, readying}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        await readying
        yield
    finally:
        readying.cancel()
        stop.set()
        await serving


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
            event = handlers.check_audited(record)
            if event.network_id == network_id:
                identifier = events.envelope(record.headers).id
                found |= {draft.event_id for draft in domain.drafts(identifier, event)}
    return Counter(found)


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
