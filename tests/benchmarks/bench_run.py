"""`make run`: how long until everything is ready on data that exists, and what it keeps in memory."""

from deploy.local.config import StackSettings
from deploy.local.stack import Stack
from tests.backends import LIBS
from tests.benchmarks.context import Context
from tests.benchmarks.figures import Figure, measured

NAMES = ("run.ready_seconds", "run.rss_mb")
ROUNDS = 3


async def run(context: Context) -> list[Figure]:
    """Start the platform once to make its data, then time starts."""
    settings = StackSettings(home=context.folder / "run", kafka_libs=LIBS).with_free_ports()
    async with Stack(settings):
        pass
    seconds, megabytes = [], []
    for _ in range(ROUNDS):
        async with Stack(settings) as stack:
            seconds.append(stack.ready_seconds)
            megabytes.append(sum(stack.rss_mb().values()))
    return [measured(NAMES[0], "s", seconds), measured(NAMES[1], "MB", megabytes)]
