"""What the tests of master keys share: new keys in files, and `portico keys rewrap` as a process."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.keys.master_keys.source import Source
from services.keys.vault import KEY_BYTES, MasterKey
from tests.backends import ROOT
from tests.keys_parts import Platform


def new_key() -> MasterKey:
    """A master key that nobody has."""
    return MasterKey(os.urandom(KEY_BYTES))


def key_file(file: Path, *keys: MasterKey) -> Path:
    """`file` with `keys`, as an operator writes it."""
    file.touch()
    Source(None, file).keep(keys)
    return file


def keys_in(file: Path) -> tuple[MasterKey, ...]:
    """The master keys of a file, in their order."""
    return Source(None, file).read()


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
