"""Load on a door from one core: wrk as fast as it answers, and an open loop at a given rate."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.backends import ROOT

CONNECTIONS = 32
_SCRIPT = """
local requests, at = {}, 0
for line in io.lines("%(keys)s") do
  requests[#requests + 1] = "GET %(path)s HTTP/1.1\\r\\nHost: api.example\\r\\n" ..
    "User-Agent: wrk\\r\\nAccept: */*\\r\\nX-Eflow-API-Key: " .. line .. "\\r\\n\\r\\n"
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency)
  io.write(string.format(
    '\\n{"requests": %%d, "microseconds": %%d, "refused": %%d, "broken": %%d, "p99_us": %%d}\\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """What wrk counted; `refused` are answers above 399.

    Attributes:
        requests: answered.
        refused: of them, with a status above 399.
        seconds: how long it took.
    """

    requests: int
    refused: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys in turn, one a request, as files that both drivers read."""

    keys: Path
    script: Path

    @classmethod
    def write(cls, folder: Path, name: str, keys: Sequence[str], path: str) -> "Keys":
        """Files for `keys`, asked for at `path`."""
        found = cls(folder / f"{name}.keys", folder / f"{name}.lua")
        found.keys.write_text("".join(f"{key}\n" for key in keys))
        found.script.write_text(_SCRIPT % {"keys": found.keys, "path": path})
        return found


def on_cores(cores: Sequence[int]) -> list[str]:
    """The beginning of a command that runs on these cores only."""
    return ["taskset", "-c", ",".join(map(str, cores))]


def missing() -> str | None:
    """What this machine lacks for a comparison, or None."""
    if len(os.sched_getaffinity(0)) < 2:
        return "two cores: one for the door under test, one for load and upstream"
    if shutil.which("wrk") is None:
        return "wrk: apt-get install wrk"
    return None if shutil.which("taskset") else "taskset: apt-get install util-linux"


async def burst(
    url: str, keys: Keys, seconds: int, cores: Sequence[int], *, connections: int = CONNECTIONS
) -> Burst:
    """Ask `url` on `connections` as fast as it answers."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(keys.script), url]
    found = json.loads(await _last_line([*on_cores(cores), *command]))
    assert not found["broken"], f"{url}: {found['broken']} requests were not answered"
    return Burst(found["requests"], found["refused"], found["microseconds"] / 1e6)


async def p99_ms(
    port: int, keys: Keys, seconds: float, cores: Sequence[int], *, per_second: float
) -> float:
    """The 99th percentile of the time from when a request was due to its whole answer.

    wrk asks again only when it was answered, so that a door which stands still is asked less and
    looks better than it is. Here requests are due at fixed moments, whatever became of the others.
    """
    program = [sys.executable, "-m", "tests.benchmarks.pace_process"]
    settings = map(str, (port, keys.keys, CONNECTIONS, per_second, seconds))
    found = json.loads(await _last_line([*on_cores(cores), *program, *settings]))
    assert not found["refused"], f"port {port}: {found['refused']} requests were refused"
    kept = found["answered"] / seconds / per_second
    assert kept > 0.98, f"port {port}: only {kept:.0%} of {per_second:.0f}/s were answered in time"
    return float(found["p99_ms"])


async def _last_line(command: Sequence[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.strip().splitlines()[-1]
