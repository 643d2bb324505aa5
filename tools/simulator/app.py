"""The simulator's composition root."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass

from shared.clock import Clock, SystemClock
from shared.config import load
from shared.http import AsgiApp
from shared.kafka import open_producer
from shared.runtime import Lifecycle, Service
from tools.simulator import cast
from tools.simulator.api import create_app
from tools.simulator.config import SimulatorSettings
from tools.simulator.ledger import Ledger
from tools.simulator.metrics import SimulatorMetrics
from tools.simulator.sender import Sender
from tools.simulator.show import Show
from tools.simulator.traffic import Traffic

LINGER_MS = 5


@dataclass(frozen=True)
class Simulator:
    """Everything the process is wired from."""

    settings: SimulatorSettings
    clock: Clock
    metrics: SimulatorMetrics

    @asynccontextmanager
    async def open(self, lifecycle: Lifecycle) -> AsyncIterator[AsgiApp]:
        """Ledger, producer, then the show as the one task."""
        async with AsyncExitStack() as stack:
            settings = self.settings
            ledger = stack.enter_context(
                closing(Ledger(settings.home / "simulator" / "ledger.sqlite"))
            )
            born_at = ledger.born(settings.seed, self.clock.time())
            everybody = cast.make(settings.seed, born_at)
            producer = await stack.enter_async_context(
                open_producer(settings.kafka_bootstrap, client_id="simulator", linger_ms=LINGER_MS)
            )
            show = Show(
                settings=settings,
                cast=everybody,
                traffic=Traffic(everybody, settings.seed, born_at),
                ledger=ledger,
                sender=Sender(producer, ledger, self.clock),
                clock=self.clock,
                metrics=self.metrics,
            )
            lifecycle.ready_when("history", lambda: show.missing)
            lifecycle.run_task("show", show.run)
            yield create_app(show, ledger, everybody, self.clock)


def build() -> Service:
    """The simulator, wired from its environment; nothing is opened yet."""
    settings = load(SimulatorSettings)
    simulator = Simulator(settings, SystemClock(), SimulatorMetrics())
    return Service("simulator", settings, simulator.open, simulator.metrics.render)
