"""`make run`: how long until everything is ready on data that exists, and what it keeps in memory."""

import asyncio
import json
import sys

from tests.backends import ROOT
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured

NAMES = ("run.ready_seconds", "run.rss_mb")
ROUNDS = 3


async def run(context: Context) -> list[Figure]:
    """Start the platform once to make its data, then time starts."""
    await _start(context)
    rounds = [await _start(context) for _ in range(ROUNDS)]
    return [
        measured(NAMES[0], "s", [each["seconds"] for each in rounds]),
        measured(NAMES[1], "MB", [each["megabytes"] for each in rounds]),
    ]


async def _start(context: Context) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.run_process",
        str(context.folder / "run"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    found: dict[str, float] = json.loads(out)
    return found
