"""Sends clicks of now at a steady rate, until it is told to stop.

    python -m tests.benchmarks.clicks_process BOOTSTRAP PER_SECOND

Half of them are the big partner's of `facts_data`. Prints a line once it has begun.
"""

import asyncio
import random
import sys
import time

import msgspec

from shared import topics
from shared.kafka import open_producer
from tests.benchmarks.clicks import click
from tests.benchmarks.facts_data import BIG, NETWORK, OTHERS

TICK_SECONDS = 0.02


async def main(bootstrap: str, per_second: int) -> None:
    """Send for ever."""
    chance = random.Random(time.time_ns())
    async with open_producer(bootstrap, client_id="bench", linger_ms=5) as producer:
        began, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * per_second)
            for _ in range(due - sent):
                partner = BIG if chance.random() < 0.5 else chance.randrange(2, 2 + OTHERS)
                value = click(chance, chance.getrandbits(32), partner)
                value |= {"network_id": NETWORK, "unix_timestamp": int(time.time())}
                await producer.send(
                    topics.CLICKS.name, msgspec.json.encode(value), key=b"1:%d" % partner
                )
            if sent == 0 < due:
                print("begun", flush=True)
            sent = due
            await asyncio.sleep(TICK_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
