"""A process that loads a replica and prints its table as JSON once it is complete.

    python -m tests.faults.replica_process BOOTSTRAP TOPIC

`PORTICO_CRASH_AT` kills it before that.
"""

import asyncio
import json
import sys
from dataclasses import replace

from shared.clock import SystemClock
from shared.events import PartnerAccess
from shared.replica import Replica
from shared.topics import PARTNERS_ACCESS


async def main(bootstrap: str, topic: str) -> None:
    """Load, print, end."""
    source = replace(PARTNERS_ACCESS, name=topic)
    replica = Replica(bootstrap, source, PartnerAccess, clock=SystemClock(), client_id="child")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(replica.run())
        while not replica.is_ready:
            await asyncio.sleep(0.005)
        print(json.dumps({key: value.version for key, value in replica.items()}))
        task.cancel()


asyncio.run(main(*sys.argv[1:]))
