"""A firehose with topics of its own, and a partner's program that reads it."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp

from deploy.local.ports import free_ports
from services.firehose.app import build
from services.firehose.config import FirehoseSettings
from shared import events, topics
from shared.events import KeyState, PartnerAccess, SessionClosed, SessionOpened
from shared.kafka import Producer, open_consumer, open_producer, partitions_of
from shared.partner_key import PartnerKey, generate
from shared.runtime import serve
from shared.topics import Topic
from tests import tracking
from tests.tail_parts import Ledger, tracked_topics
from tests.waiting import DEADLINE_SECONDS

STREAM = "/v1/firehose/stream"
KEY = generate()


@dataclass
class Surroundings:
    """The topics of one firehose, and who writes to them."""

    bootstrap: str
    tracking: Mapping[str, Topic]
    keys: Topic
    partners: Topic
    networks: Topic
    sessions: Topic
    producer: Producer
    ledger: Ledger
    version: int = 0

    async def put_key(
        self, key: PartnerKey = KEY, key_id: str = "k1", partner: int = 1, **fields: object
    ) -> None:
        """Publish a key's state; the newest holds."""
        self.version += 1
        state = KeyState(
            key_id=key_id,
            version=self.version,
            digest=key.digest,
            network_id=1,
            network_affiliate_id=partner,
            integration="test",
            **fields,
        )
        value = events.encode(state)
        await self.producer.send_and_wait(self.keys.name, value, key=key_id.encode())

    async def put_partner(self, partner: int = 1, **fields: object) -> None:
        """Publish a partner's access; the firehose is enabled unless told otherwise."""
        self.version += 1
        known = {"firehose_enabled": True} | fields
        access = PartnerAccess(
            network_id=1, network_affiliate_id=partner, version=self.version, **known
        )
        value = events.encode(access)
        await self.producer.send_and_wait(self.partners.name, value, key=tracking.key(1, partner))

    async def recorded(self, count: int) -> list[SessionOpened | SessionClosed]:
        """The session records, once there are `count` of them."""
        kinds = {"portico.SessionOpened": SessionOpened, "portico.SessionClosed": SessionClosed}
        found: list[SessionOpened | SessionClosed] = []
        async with open_consumer(self.bootstrap, client_id="sessions") as consumer:
            consumer.assign(await partitions_of(consumer, [self.sessions.name]))
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len(found) < count:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        for record in records:
                            kind = kinds[events.envelope(record.headers).type]
                            found.append(events.decode(kind, record.value))
        return found

    def settings(self, **more: object) -> FirehoseSettings:
        """Settings of a firehose on a free port."""
        return FirehoseSettings(
            kafka_bootstrap=self.bootstrap, port=free_ports(1)[0], drain_seconds=3.0, **more
        )


def topics_of_test() -> dict[str, Topic]:
    """The topics beside those of tracking."""
    mark = uuid.uuid4().hex[:12]
    return {
        "keys": replace(topics.KEYS_STATE, name=f"keys-{mark}", partitions=1),
        "partners": replace(topics.PARTNERS_ACCESS, name=f"partners-{mark}", partitions=1),
        "networks": replace(topics.NETWORKS_STATE, name=f"networks-{mark}", partitions=1),
        "sessions": replace(
            topics.FIREHOSE_SESSIONS, name=f"sessions-{mark}", partitions=1, dead_letters=False
        ),
    }


@asynccontextmanager
async def open_surroundings(bootstrap: str) -> AsyncIterator[Surroundings]:
    """New topics, with a key and an enabled partner in them."""
    table, tracked = topics_of_test(), tracked_topics()
    await topics.apply(bootstrap, table=[*table.values(), *tracked.values()])
    async with open_producer(bootstrap, client_id="surroundings", linger_ms=2) as producer:
        found = Surroundings(
            bootstrap, tracked, **table, producer=producer, ledger=Ledger(producer, tracked)
        )
        await found.put_key()
        await found.put_partner()
        yield found


@dataclass
class Message:
    """One event, heartbeat or end of a stream."""

    id: str
    name: str
    data: dict


@dataclass
class Received:
    """What a partner's program keeps: the last id, and the numbers of events by type."""

    cursor: str = ""
    ids: list[str] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=lambda: {"clicks": [], "conversions": []})

    def take(self, message: Message) -> None:
        """One message."""
        self.cursor = message.id
        if message.name in ("click", "conversion"):
            self.ids.append(message.id)
            number = int(message.data["transaction_id"], 16)
            self.numbers[f"{message.name}s"].append(number)

    @property
    def total(self) -> int:
        """How many events."""
        return sum(map(len, self.numbers.values()))


@dataclass
class Partner:
    """A partner's program."""

    url: str
    session: aiohttp.ClientSession
    key: PartnerKey = KEY
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def ask(
        self, query: str = "", key: PartnerKey | None = KEY, **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["X-Eflow-API-Key"] = key.reveal()
        url = f"{self.url}{STREAM}{'?' if query else ''}{query}"
        async with self.session.get(url, headers=sent) as response:
            yield response

    async def refusal(
        self, query: str = "", key: PartnerKey | None = KEY, **headers: str
    ) -> tuple[int, dict, Mapping[str, str]]:
        """Status, body and headers of a request that is refused."""
        async with self.ask(query, key, **headers) as response:
            assert response.status != 200
            return response.status, await response.json(), response.headers

    async def until_status(self, status: int, query: str = "", key: PartnerKey = KEY) -> None:
        """Ask until the door has learned of a change."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            async with self.ask(query, key) as response:
                found = response.status
            if found == status:
                return
        raise AssertionError(f"{found}, never {status}")


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[Message]:
    """The messages of a stream, whatever its format."""
    assert response.status == 200, await response.text()
    read = _ndjson if response.content_type == "application/x-ndjson" else _sse
    async for message in read(response):
        yield message


async def _ndjson(response: aiohttp.ClientResponse) -> AsyncIterator[Message]:
    async for line in response.content:
        found = json.loads(line)
        yield Message(found["id"], found["type"], found["data"])


async def _sse(response: aiohttp.ClientResponse) -> AsyncIterator[Message]:
    fields: dict[str, str] = {}
    async for line in response.content:
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        else:
            yield Message(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


@asynccontextmanager
async def open_firehose(surroundings: Surroundings, **settings: object) -> AsyncIterator[Partner]:
    """A running firehose that is ready, stopped by `partner.stop` or at the end."""
    chosen = surroundings.settings(**settings)
    service = build(
        chosen,
        keys=surroundings.keys,
        partners=surroundings.partners,
        networks=surroundings.networks,
        tracking=surroundings.tracking,
        sessions=surroundings.sessions,
    )
    url = f"http://127.0.0.1:{chosen.port}"
    timeout = aiohttp.ClientTimeout(total=120)
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession(timeout=timeout) as session:
        partner = Partner(url, session)
        group.create_task(serve(service, partner.stop))
        await until_ready(session, url)
        try:
            yield partner
        finally:
            partner.stop.set()


async def until_ready(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until `/readyz` says so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                async with session.get(f"{url}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
