"""What the search for secrets shares: a gateway process, and everything that anybody could read."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deploy.local.ports import free_ports
from shared import topics
from shared.tokens import Caller
from tests.backends import ROOT
from tests.keys_parts import Platform, read_settled

DEBUG = {"PORTICO_LOG_LEVEL": "DEBUG", "PYTHONASYNCIODEBUG": "1"}


@dataclass
class Door:
    """A real gateway before the key service of a platform, both as talkative as they can be."""

    platform: Platform
    port: int = field(default_factory=lambda: free_ports(1)[0])
    answers: dict[str, str] = field(default_factory=dict)
    """What is no secret's own answer, by what was asked."""
    tokens: list[str] = field(default_factory=list)
    """Of all callers so far."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.platform.home / "gateway.log"

    @contextmanager
    def open(self) -> Iterator["Door"]:
        """The gateway as a process, until the block ends."""
        variables = {
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_UPSTREAM_KEYS": self.platform.url,
            "GATEWAY_UPSTREAM_REPORTING": f"http://127.0.0.1:{free_ports(1)[0]}",
            "GATEWAY_DRAIN_SECONDS": "3",
            **DEBUG,
        }
        with self.log.open("ab") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"],
                cwd=ROOT,
                env=self.platform.environment(**variables),
                stdout=out,
                stderr=out,
            )
        try:
            yield self
        finally:
            child.terminate()
            child.wait(30)

    async def is_ready(self) -> bool:
        """Whether it serves."""
        async with httpx.AsyncClient(verify=False, base_url=self.url) as client:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

    async def call(
        self, method: str, path: str, caller: Caller | None = None, **request: Any
    ) -> httpx.Response:
        """The answer to `caller`, who has a token, or to somebody without."""
        headers = request.pop("headers", {})
        if caller is not None:
            token = self.platform.headers(method, path, caller)["authorization"]
            self.tokens.append(token.rpartition(".")[2])
            headers = headers | {"authorization": token}
        async with httpx.AsyncClient(verify=False, base_url=self.url, timeout=60) as client:
            return await client.request(method, path, headers=headers, **request)

    async def metrics(self) -> str:
        """What both processes measure."""
        async with httpx.AsyncClient(verify=False) as client:
            texts = [await client.get(f"{url}/metrics") for url in (self.url, self.platform.url)]
        return "\n".join(text.text for text in texts)


def spellings(secret: str | bytes) -> list[str]:
    """How a secret may be written: as it is, in hexadecimal digits, in base64 at any place in it.

    A partner's key is also looked for without the prefix that all of them have.
    """
    raw = secret if isinstance(secret, bytes) else secret.removeprefix("aff_").encode()
    encoded = [base64.b64encode(b"x" * shift + raw)[4:-4].decode() for shift in range(3)]
    encoded += [text.replace("+", "-").replace("/", "_") for text in encoded]
    plain = [] if isinstance(secret, bytes) else [raw.decode()]
    return [*plain, raw.hex(), raw.hex().upper(), *encoded]


async def tables(platform: Platform) -> str:
    """Every row of every table, twice: as Postgres writes it, and bytes as the text they may be."""
    names = await platform.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1", platform.schema
    )
    found = []
    for (name,) in names:
        for row in await platform.execute(f'SELECT t::text AS shown, t.* FROM "{name}" AS t'):
            found.append(row["shown"])
            found += [one.decode(errors="replace") for one in row if isinstance(one, bytes)]
    return "\n".join(found)


async def log_of_kafka(platform: Platform) -> str:
    """Every byte of every record of every topic: keys, values and headers."""
    found: list[bytes] = []
    for topic in topics.TOPICS:
        for record in await read_settled(platform.bootstrap, topic.name):
            headers = [part for name, value in record.headers for part in (name.encode(), value)]
            found += [part for part in (record.key, record.value, *headers) if part]
    return b"\n".join(found).decode(errors="replace")
