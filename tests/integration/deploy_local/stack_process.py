"""A program for tests: a platform of Kafka, Postgres and one stand-in, until it is told to stop.

    python -m tests.integration.deploy_local.stack_process HOME

Prints `pids` and the process ids as JSON once ready. Everything a person would read goes to standard error.
"""

import asyncio
import json
import sys
from pathlib import Path

from deploy.local.config import StackSettings
from deploy.local.programs import Program
from deploy.local.stack import Stack
from shared.errors import PorticoError
from tests.backends import LIBS

STAND_IN = Program("simulator", "tests.integration.deploy_local.stand_in")


async def main(home: Path) -> None:
    """Run until a signal."""
    settings = StackSettings(home=home, kafka_libs=LIBS, durable=False).with_free_ports()
    async with Stack(settings, say=_say, table=(STAND_IN,)) as stack:
        pids = {name: child.pid for name, child in stack.processes.items()}
        print("pids", json.dumps(pids), flush=True)
        raise await stack.failed()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except PorticoError as error:
        sys.exit(str(error))
