"""Programs that a benchmark runs beside itself: started, waited for, ended by their own pid."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.backends import ROOT
from tests.benchmarks.context import Context
from tests.waiting import DEADLINE_SECONDS


@asynccontextmanager
async def running(
    context: Context, command: Sequence[str], url: str, variables: Mapping[str, str] | None = None
) -> AsyncIterator[int]:
    """A program, from when `url` is answered below 500 until it is told to stop; its process id."""
    log = context.folder / f"{context.unique('program')}.log"
    with log.open("wb") as out:
        environment = os.environ | (variables or {})
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        await _until_open(process, url, log)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _until_open(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 2 * DEADLINE_SECONDS
    async with httpx.AsyncClient(timeout=5, verify=False) as client:
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if (await client.get(url)).status_code < 500:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
