"""A program for `bench_revocation`: what lies behind the gateways, and their other traffic.

    python -m tests.benchmarks.revocation_process < settings.json

Reads one line of JSON: `upstream_port`, `gateway_ports`, `secrets` and `requests_per_second` over
all gateways. Serves and asks until the input ends; then prints one line of JSON: `seconds`, and
`answers` by status, "0" for none. A process of its own, so that the clock of the driver stands
beside the load and not behind it.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator

import uvloop

from tests.revocation_parts import Door, open_upstream

CONNECTIONS = 4
"""To each gateway; a slow answer holds up only its own."""


async def _ask_steadily(
    port: int, secrets: Iterator[str], pause_seconds: float, answers: Counter[int]
) -> None:
    """Ask on one connection at a steady pace; what cannot be kept up with is left out."""
    door = Door(port)
    due = time.monotonic()
    while True:
        due = max(due + pause_seconds, time.monotonic() - pause_seconds)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        answers[await door.ask(next(secrets))] += 1


async def main() -> None:
    """Serve and ask until the input ends."""
    settings = json.loads(sys.stdin.readline())
    ports = settings["gateway_ports"]
    pause_seconds = len(ports) * CONNECTIONS / settings["requests_per_second"]
    secrets = itertools.cycle(settings["secrets"])
    answers: Counter[int] = Counter()
    async with open_upstream(settings["upstream_port"]), asyncio.TaskGroup() as group:
        began = time.monotonic()
        asking = [
            group.create_task(_ask_steadily(port, secrets, pause_seconds, answers))
            for port in ports
            for _ in range(CONNECTIONS)
        ]
        await asyncio.to_thread(sys.stdin.read)
        seconds = time.monotonic() - began
        for task in asking:
            task.cancel()
    print(json.dumps({"seconds": seconds, "answers": answers}))


if __name__ == "__main__":
    uvloop.run(main())
