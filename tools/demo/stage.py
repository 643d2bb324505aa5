"""Where the story is played: a platform of its own, and who calls its doors."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from deploy.local.config import StackSettings
from deploy.local.stack import Stack
from deploy.local.supervisor import Say
from shared.clock import Clock
from shared.config import load
from shared.tokens import AUDIT_READ, SECURITY_FULL, Caller
from tools.cli import issuer
from tools.demo.record import Record, StepError, check, until

TIMEOUT_SECONDS: Final = 30.0
KEY_HEADER: Final = "X-Eflow-API-Key"

NETWORK: Final = 201
OTHER_NETWORK: Final = 202


@dataclass(frozen=True, slots=True)
class Key:
    """An issued key, as its partner holds it."""

    network_id: int
    partner_id: int
    key_id: str
    secret: str = field(repr=False)
    integration: str

    @property
    def headers(self) -> dict[str, str]:
        """What its holder sends."""
        return {KEY_HEADER: self.secret}

    @property
    def owner(self) -> dict[str, int]:
        """Its partner, as the ledger is asked for."""
        return {"network_id": self.network_id, "network_affiliate_id": self.partner_id}


@dataclass
class Stage:
    """The running platform; the acts share nothing but this."""

    stack: Stack
    record: Record
    clock: Clock
    gateway: httpx.AsyncClient
    firehose: httpx.AsyncClient
    simulator: httpx.AsyncClient
    keys: dict[str, Key] = field(default_factory=dict, init=False)

    def key(self, name: str) -> Key:
        """The key that an earlier step issued under `name`.

        Raises:
            StepError: that step failed.
        """
        if name not in self.keys:
            raise StepError(f"no key {name!r}: the step that issues it failed")
        return self.keys[name]

    async def staff(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        network: int = NETWORK,
        permissions: tuple[str, ...] = (SECURITY_FULL, AUDIT_READ),
        super_user: bool = True,
        params: Mapping[str, str | int] | None = None,
    ) -> httpx.Response:
        """What the door answers to a member of a network's staff."""
        who = "admin" if super_user else "clerk"
        caller = Caller(
            subject=f"{who}@network-{network}",
            name=who,
            network_id=network,
            permissions=frozenset(permissions),
            is_super_user=super_user,
        )
        token = issuer.sign(self.stack.settings.home, caller)
        headers = {"Authorization": f"Bearer {token}"}
        return await self.gateway.request(method, path, json=body, headers=headers, params=params)

    async def told(self, method: str, path: str, *rest: Any, **more: Any) -> Any:
        """As `staff`, for calls that must succeed: the decoded answer.

        Raises:
            StepError: the door refused.
        """
        answer = await self.staff(method, path, *rest, **more)
        check(answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    async def issue(
        self, partner: int, integration: str, *, network: int = NETWORK, **more: Any
    ) -> Key:
        """A new key, as soon as the key service knows the partner and the gateway the key."""
        path = f"/v1/networks/affiliates/{partner}/apikeys"
        wanted = {"integration": integration, **more}

        async def known() -> httpx.Response | None:
            answer = await self.staff("POST", path, wanted, network=network)
            return None if answer.status_code == httpx.codes.NOT_FOUND else answer

        answer = await until(self.clock, f"partner {partner} at the key service", known)
        check(answer.status_code == httpx.codes.CREATED, f"issue: {answer.text}")
        found = answer.json()
        key = Key(network, partner, found["key_id"], found["key"], integration)

        async def works() -> bool | None:
            return True if (await self.ask(key)).is_success else None

        await until(self.clock, "the new key at the gateway", works, pause=0.005)
        return key

    async def ask(self, key: Key) -> httpx.Response:
        """The cheapest call there is with a key."""
        return await self.gateway.get("/v1/affiliates/network", headers=key.headers)

    async def entries(self, network: int = NETWORK, **filters: str | int) -> list[dict[str, Any]]:
        """A network's audit entries that match, newest first (up to a thousand)."""
        found = await self.told(
            "GET",
            "/v1/audit/entries",
            network=network,
            params={"limit": 1_000, **filters},
        )
        rows: list[dict[str, Any]] = found["entries"]
        return rows

    async def truth(self, path: str, **params: Any) -> Any:
        """What the simulator's ledger says; decimals stay exact.

        Raises:
            StepError: the simulator refused.
        """
        answer = await self.simulator.get(f"/ledger/{path}", params=params)
        check(answer.is_success, f"simulator: {answer.status_code} {answer.text}")
        return exact(answer)


def exact(answer: httpx.Response) -> Any:
    """The JSON of an answer with its numbers as exact decimals."""
    return msgspec.json.Decoder(float_hook=Decimal).decode(answer.content)


@asynccontextmanager
async def staged(home: Path, clock: Clock, record: Record, say: Say) -> AsyncIterator[Stage]:
    """A platform with fresh data in `home`, on free ports, with its own Kafka and Postgres."""
    await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
    own = {"home": home, "kafka_bootstrap": None, "database_url": None, "clickhouse_url": None}
    settings = load(StackSettings).model_copy(update=own).with_free_ports()
    async with Stack(settings, say=say) as stack, AsyncExitStack() as exits:
        doors = [
            await exits.enter_async_context(
                httpx.AsyncClient(base_url=stack.urls[name], timeout=TIMEOUT_SECONDS)
            )
            for name in ("gateway", "firehose", "simulator")
        ]
        yield Stage(stack, record, clock, *doors)
