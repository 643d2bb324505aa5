"""Waits until processes say on `/readyz` that they may receive traffic."""

import asyncio
import time
from collections.abc import Callable, Mapping

from deploy.local.ports import HOST
from deploy.local.process import Child
from deploy.local.supervisor import Say

ASK_SECONDS = 0.1
ANSWER_SECONDS = 5.0

_ADVICE = "Mend what its log says, then start again."
_REQUEST = b"GET /readyz HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def until_ready(
    children: Mapping[str, Child], port_of: Callable[[str], int], seconds: float, say: Say
) -> None:
    """Return when all are ready.

    Raises:
        SetupError: one ended, or was not ready after `seconds`; the message holds its last output.
    """
    started = time.monotonic()
    waiting = dict(children)
    answers = dict.fromkeys(waiting, "no answer yet")
    while waiting:
        for name, child in list(waiting.items()):
            ready, answers[name] = await _ask(port_of(name))
            if ready:
                say(f"{name} ready ({time.monotonic() - started:.1f} s)")
                del waiting[name]
            elif not child.running:
                raise child.failure(f"{name} ended instead of getting ready", _ADVICE)
            elif time.monotonic() - started > seconds:
                what = f"{name} is not ready after {seconds:.0f} s: {answers[name]}"
                raise child.failure(what, _ADVICE)
        await asyncio.sleep(ASK_SECONDS)


async def _ask(port: int) -> tuple[bool, str]:
    """Whether `/readyz` answers 200, and what it says."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(_REQUEST)
            status = await reader.readline()
            rest = await reader.read()  # to the end: we asked for the connection to be closed
            writer.close()
    except (OSError, TimeoutError, ValueError):
        return False, "it does not answer on its port"
    body = rest.partition(b"\r\n\r\n")[2].decode(errors="replace").strip()
    return status.split()[1:2] == [b"200"], body
