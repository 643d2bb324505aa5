"""Waiting for a condition with a deadline, instead of sleeping for a guess."""

import asyncio
import time
from collections.abc import Callable

DEADLINE_SECONDS = 60.0


async def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until `condition` holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        await asyncio.sleep(0.01)
