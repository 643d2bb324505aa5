"""A program for `bench_run`: starts the platform, prints its figures, stops it.

    python -m tests.benchmarks.run_process HOME

A process of its own, since what the benchmarks before it left in memory is not the platform's.
"""

import asyncio
import json
import sys
from pathlib import Path

from deploy.local.config import StackSettings
from deploy.local.stack import Stack
from tests.backends import LIBS


async def main(home: Path) -> None:
    """Print `seconds` until ready and `megabytes` of all Python processes as one line of JSON."""
    settings = StackSettings(home=home, kafka_libs=LIBS).with_free_ports()
    async with Stack(settings) as stack:
        megabytes = sum(stack.rss_mb().values())
        print(json.dumps({"seconds": stack.ready_seconds, "megabytes": megabytes}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
