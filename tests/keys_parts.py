"""What the keys tests share: the service as a process, staff, partners, and readers of its topics."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer

from deploy.local import secrets
from deploy.local.ports import free_ports
from services.keys.domain import Cause, Key, Made
from shared import events, topics
from shared.clock import SystemClock
from shared.events import Actor, PartnerProfile, partner_key
from shared.identity import HEADER, Identity, IdentitySigner
from shared.kafka import Record, open_consumer, open_producer, partitions_of
from shared.partner_key import generate
from shared.tokens import SECURITY_FULL, Caller, issue_token
from tests.backends import ROOT

DEADLINE_SECONDS = 60.0
CLIENT_IP = "192.0.2.99"
NOW = 1_767_225_600.0
ROLES = json.dumps(
    {
        "*": {"key manager": ["security:full"], "key reader": ["accounts_history:read"]},
        "17": {"key manager": []},
    }
)
"""What the issuer's roles carry at every key service of these tests."""

KEY = Key(
    key_id="key_0123456789abcdef0123",
    network_id=201,
    network_affiliate_id=7,
    integration="crm",
    digest="ab" * 32,
    masked="aff_…abcd",
    sealed=b"sealed",
    allowlist=("192.0.2.7",),
    expires_at=NOW + 60,
    created_at=NOW - 60,
    created_by="user-7",
)

CAUSE = Cause(Actor(subject="user-7", behind="user-1"), NOW, "why", "request-1", "192.0.2.1")

MADE = Made("key_ffffffffffffffffffff", generate(), b"sealed anew")


def network() -> int:
    """A network that no other test has."""
    return random.randrange(10**9, 2**52)


def staff(network_id: int, *permissions: str, super_user: bool = False, **more: Any) -> Caller:
    """A member of a network's staff, with full control unless `permissions` say otherwise."""
    return Caller(
        subject="user-7",
        name="Ada",
        network_id=network_id,
        permissions=frozenset(permissions or (SECURITY_FULL,)),
        is_super_user=super_user,
        **more,
    )


def clerk(network_id: int) -> Caller:
    """A member of staff without any permission."""
    return Caller(subject="user-8", name="Bob", network_id=network_id)


@dataclass
class Platform:
    """Where a test's key service finds what it needs, and how it is called."""

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
    def log(self) -> Path:
        """Everything that the processes of this platform wrote."""
        return self.home / "keys.log"

    def environment(self, **more: str) -> dict[str, str]:
        """What the service's process reads."""
        return {
            "PATH": os.environ["PATH"],
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "DATABASE_URL": self.database_url,
            "PORTICO_HOME": str(self.home),
            "IDENTITY_SECRETS": self.secrets.identity,
            "JWT_JWKS": str(self.secrets.jwks),
            "JWT_ROLES": ROLES,
            "KEYS_PORT": str(self.port),
            "KEYS_DB_SCHEMA": self.schema,
            "KEYS_MASTER_KEY_FILE": str(self.secrets.master_key),
            "KEYS_DRAIN_SECONDS": "3",
        } | more

    def headers(
        self, method: str, path: str, caller: Caller | None, roles: Iterable[str] = ()
    ) -> dict[str, str]:
        """What the gateway sends with a request that `caller`, who has these roles, makes."""
        now = SystemClock().time()
        identity = Identity(
            request_id="request-1",
            client_ip=CLIENT_IP,
            method=method,
            path=urlsplit(path).path,
            expires_at=int(now) + 30,
        )
        found = {HEADER: IdentitySigner(self.secrets.identity).sign(identity)}
        if caller is not None:
            token = issue_token(
                self.secrets.token_key.read_bytes(),
                caller,
                key_id=secrets.TOKEN_KEY_ID,
                issuer="portico-local",
                audience="portico",
                now=now,
                roles=roles,
            )
            found["authorization"] = f"Bearer {token}"
        return found

    async def call(
        self,
        method: str,
        path: str,
        caller: Caller | None,
        body: Any = None,
        *,
        once: str | None = None,
    ) -> httpx.Response:
        """The answer to what `caller` asks through the gateway, with `once` as Idempotency-Key."""
        headers = self.headers(method, path, caller)
        if once is not None:
            headers["idempotency-key"] = once
        async with httpx.AsyncClient(base_url=self.url, timeout=30, verify=False) as client:
            return await client.request(method, path, json=body, headers=headers)

    async def issue(
        self, caller: Caller, partner: int, integration: str = "crm", **more: Any
    ) -> dict[str, Any]:
        """A new key, which must be allowed."""
        path = f"/v1/networks/affiliates/{partner}/apikeys"
        answer = await self.call("POST", path, caller, {"integration": integration, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def tell(self, *profiles: PartnerProfile) -> None:
        """Have the network's platform tell of partners, and wait until the service knows them."""
        await self.send(*profiles)
        for profile in profiles:
            await self._until_known(profile)

    async def send(self, *profiles: PartnerProfile) -> None:
        """Have the network's platform tell of partners."""
        async with open_producer(self.bootstrap, client_id="test") as producer:
            for profile in profiles:
                key = partner_key(profile.network_id, profile.network_affiliate_id)
                value = events.encode(profile)
                await producer.send_and_wait(topics.NETWORK_PARTNERS.name, value, key.encode())

    async def remove(self, network_id: int, partner_id: int) -> None:
        """Have the network's platform tell that a partner is no more."""
        key = partner_key(network_id, partner_id).encode()
        await self.put(topics.NETWORK_PARTNERS, key, None)

    async def put(self, topic: topics.Topic, key: bytes, value: bytes | None) -> None:
        """Append a record by hand, as nobody should."""
        async with open_producer(self.bootstrap, client_id="test") as producer:
            await producer.send_and_wait(topic.name, value, key)

    async def _until_known(self, profile: PartnerProfile) -> None:
        path = f"/v1/networks/affiliates/{profile.network_affiliate_id}/apikeys"

        async def known() -> bool:
            answer = await self.call("GET", path, staff(profile.network_id))
            return answer.status_code == 200

        await until(known)

    async def told(self, network_id: int) -> list[Any]:
        """The events of one network, partition by partition, as an independent reader finds them."""
        records = await read_settled(self.bootstrap, topics.KEYS_EVENTS.name)
        found = [(record, json.loads(record.value or b"{}")) for record in records]
        return [
            events.decode(_kind(record), record.value)
            for record, value in found
            if value["network_id"] == network_id
        ]

    async def states(self, topic: topics.Topic) -> dict[str, Any]:
        """The last value of each record key of `topic`; None for a tombstone, bytes if no JSON."""
        return {
            (record.key or b"").decode(): _json(record.value)
            for record in await read_settled(self.bootstrap, topic.name)
        }

    async def execute(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """The rows that `statement` returns in the service's schema."""
        connection = await asyncpg.connect(
            self.database_url, server_settings={"search_path": self.schema}
        )
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def metric(self, name: str) -> float:
        """The value of one series; 0 while there is none."""
        async with httpx.AsyncClient(base_url=self.url, verify=False) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def _json(value: bytes | None) -> Any:
    try:
        return None if value is None else json.loads(value)
    except ValueError:
        return value


def _kind(record: Record[bytes, bytes]) -> Any:
    name = dict(record.headers)["ce_type"].decode()
    return {events.type_name(kind): kind for kind in topics.KEYS_EVENTS.schemas}[name]


def partner(network_id: int, partner_id: int = 7, **more: Any) -> PartnerProfile:
    """A partner who may have a key, unless `more` says otherwise."""
    return PartnerProfile(
        network_id=network_id,
        network_affiliate_id=partner_id,
        **({"version": 1, "name": "Cedar Coupons"} | more),
    )


async def read_settled(bootstrap: str, topic: str) -> list[Record[bytes, bytes]]:
    """Every committed record of `topic`, also of a transaction whose end is still being written.

    Kafka confirms a transaction when it is decided, and shows it to readers a moment later.
    """
    raw = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_uncommitted")
    await raw.start()
    async with open_consumer(bootstrap, client_id="recount") as consumer:
        partitions = await partitions_of(consumer, [topic])
        ends = await raw.end_offsets(partitions)
        await raw.stop()
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        records: list[Record[bytes, bytes]] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while [one for one in partitions if await consumer.position(one) < ends[one]]:
                for found in (await consumer.getmany(timeout_ms=100)).values():
                    records.extend(found)
        return records


async def until_published(platform: Platform) -> None:
    """Wait until nothing waits in the outbox."""

    async def nothing_waits() -> bool:
        return not await platform.execute("SELECT FROM outbox WHERE published_at IS NULL LIMIT 1")

    await until(nothing_waits)


async def until(condition: Any, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until the coroutine function `condition` answers true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)  # a look is often a reading of a whole topic


class KeysProcess:
    """The key service as a process of its own."""

    def __init__(self, platform: Platform, variables: Mapping[str, str]) -> None:
        self._platform = platform
        with platform.log.open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "services.keys"],
                cwd=ROOT,
                env=platform.environment(**variables),
                stdout=out,
                stderr=out,
            )

    def wait_ready(self) -> None:
        """Wait until `/readyz` is 200."""
        assert self.wait_until_served("/readyz"), f"ended:\n{self._platform.log.read_text()}"

    def wait_until_served(self, path: str = "/healthz") -> bool:
        """Wait until `path` is 200; False if the process has ended before."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._serves(path):
            if self._child.poll() is not None:
                return False
            assert time.monotonic() < deadline, f"not served:\n{self._platform.log.read_text()}"
            time.sleep(0.05)
        return True

    def _serves(self, path: str) -> bool:
        try:
            return httpx.get(self._platform.url + path, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def wait_exit(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        return self._child.wait(DEADLINE_SECONDS)

    def close(self) -> int:
        """Tell it to stop, and wait; its exit status."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            return self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()


@contextmanager
def running(platform: Platform, **variables: str) -> Iterator[KeysProcess]:
    """The key service, ready, until the block ends."""
    process = KeysProcess(platform, variables)
    try:
        process.wait_ready()
        yield process
    finally:
        process.close()


@contextmanager
def serving(platform: Platform) -> Iterator[KeysProcess]:
    """The key service after a killed one: it answers, also while Kafka still waits for the dead."""
    process = KeysProcess(platform, {})
    try:
        assert process.wait_until_served(), platform.log.read_text()
        yield process
    finally:
        process.close()


def errors_logged(log: Path) -> list[str]:
    """The lines of `log` that tell of an error."""
    return [
        line
        for line in log.read_text().splitlines()
        if not line.startswith("{") or json.loads(line)["level"] in ("error", "critical")
    ]
