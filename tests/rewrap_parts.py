"""What the tests of master keys share: new keys in files, and `portico keys rewrap` as a process."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.keys.master_keys.holding import Holding
from services.keys.master_keys.source import Source
from services.keys.master_keys.store import Check, MasterKeysStore
from services.keys.metrics import KeysMetrics
from services.keys.sealing import Sealing
from services.keys.store import Store
from services.keys.vault import KEY_BYTES, MasterKey, Vault
from shared import events, partner_key
from shared.clock import ManualClock
from shared.events import SecretsRewrapped
from shared.partner_key import PartnerKey
from shared.postgres import Pool, migrate, open_pool
from tests.backends import ROOT
from tests.keys_parts import Platform


def new_key() -> MasterKey:
    """A master key that nobody has."""
    return MasterKey(os.urandom(KEY_BYTES))


def as_text(*keys: MasterKey) -> str:
    """`keys` as an operator writes them, one a line."""
    return "\n".join(base64.b64encode(key.reveal()).decode() for key in keys)


def key_file(file: Path, *keys: MasterKey) -> Path:
    """`file` with `keys`, as an operator writes it."""
    file.write_text(as_text(*keys))
    return file


def keys_in(file: Path) -> tuple[MasterKey, ...]:
    """The master keys of a file, in their order."""
    return Source(None, file).read()


@dataclass(frozen=True)
class Sealed:
    """A database with secrets.

    Attributes:
        pool: bound to its schema.
        secrets: by network, in clear and as sealed.
    """

    pool: Pool
    secrets: dict[int, tuple[PartnerKey, bytes]]

    async def under(self) -> dict[int, str]:
        """The master key of each network's data key."""
        rows = await self.pool.fetch("SELECT network_id, master_key FROM data_keys ORDER BY 1")
        return dict(map(tuple, rows))

    async def require_all_open(self, *held: MasterKey) -> None:
        """Every secret opens with the master keys `held`."""
        vault = Vault(held)
        for network_id, data_key in await MasterKeysStore(self.pool).page(0, 1_000_000):
            secret, text = self.secrets[network_id]
            assert vault.open(data_key, network_id, "key_a", text) == secret

    async def told(self) -> list[SecretsRewrapped]:
        """The events that wait to be published."""
        rows = await self.pool.fetch("SELECT value FROM outbox ORDER BY id")
        return [events.decode(SecretsRewrapped, row["value"]) for row in rows]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> Any:
        """What `--json` printed."""
        assert self.status in (0, 1), self.err
        return json.loads(self.out)


@asynccontextmanager
async def sealed(
    database_url: str, schema: str, old: MasterKey, networks: int
) -> AsyncIterator[Sealed]:
    """The tables of a key service, with a secret of each of so many networks under `old`."""
    vault, kept = Vault([old]), {}
    async with open_pool(database_url, schema=schema, application=schema) as pool:
        await migrate(pool, "services.keys.migrations")
        async with MasterKeysStore(pool).transaction("test") as master_keys:
            await master_keys.make_check(Check(vault.new_check(old.fingerprint), old.fingerprint))
        async with Store(pool).transaction("test") as unit:
            for network_id in range(1, networks + 1):
                secret = partner_key.generate()
                text = await Sealing(vault).sealed(unit, network_id, "key_a", secret)
                kept[network_id] = (secret, text)
        yield Sealed(pool, kept)


@dataclass(frozen=True)
class Held:
    """A process as far as it holds master keys."""

    holding: Holding
    vault: Vault
    metrics: KeysMetrics

    def gauges(self) -> tuple[float, float, float]:
        """Whether the file is wrong, how many keys a restart would lack, what is to be moved."""
        found = [
            self.metrics.registry.get_sample_value(f"keys_{name}")
            for name in ("master_keys_unreadable", "master_keys_lacking", "data_keys_old")
        ]
        return (found[0] or 0, found[1] or 0, found[2] or 0)


@asynccontextmanager
async def holding(found: Sealed, file: Path) -> AsyncIterator[Held]:
    """A process that has started on these tables with the master keys of `file`."""
    vault, source, metrics = Vault([]), Source(None, file), KeysMetrics()
    one = Holding(vault, source, MasterKeysStore(found.pool), ManualClock(), metrics)
    await one.start()
    yield Held(one, vault, metrics)
    await one.leave()


async def rewrap(platform: Platform, *options: str, **variables: str) -> Ended:
    """`portico keys rewrap` on the database of `platform`, until it has ended."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.cli", "keys", "rewrap", *options),
        cwd=ROOT,
        env=platform.environment(**variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    return Ended(child.returncode or 0, out.decode(), err.decode())
