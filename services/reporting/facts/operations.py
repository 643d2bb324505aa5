"""Long work that an operator asks for: one at a time, with progress to look at."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from shared.clock import Clock
from shared.errors import ConflictError, PorticoError

log = logging.getLogger(__name__)

RUNNING: Final = "running"


@dataclass(slots=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        name: of the work.
        began_at: when it began (seconds, UTC).
        state: `running`, `done` or `failed`.
        doing: the step that is being done, or was done last.
        done: records of the step.
        total: how many records the step had when it began; 0 if it is not known.
        ended_at: when it ended (seconds, UTC); 0 while it runs.
        error: why it failed.
        result: what it found.
    """

    name: str
    began_at: float
    state: str = RUNNING
    doing: str = ""
    done: int = 0
    total: int = 0
    ended_at: float = 0.0
    error: str = ""
    result: Any = None

    def step(self, doing: str, total: int = 0) -> None:
        """Begin a step."""
        self.doing, self.done, self.total = doing, 0, total

    def advance(self, records: int) -> None:
        """So many more records are done."""
        self.done += records


Work = Callable[[Progress], Awaitable[Any]]


class Operations:
    """Runs what operators ask for, in the service's own group of tasks.

    Args:
        works: by name.
        clock: the time.
    """

    def __init__(self, works: dict[str, Work], clock: Clock) -> None:
        self._works = works
        self._clock = clock
        self._wanted: asyncio.Queue[Progress] = asyncio.Queue(1)
        self.latest: dict[str, Progress] = {}

    def begin(self, name: str) -> Progress:
        """Have a piece of work done.

        Raises:
            ConflictError: another one runs.
        """
        for other in self.latest.values():
            if other.state == RUNNING:
                raise ConflictError(f"A {other.name} is running; wait until it is done.")
        progress = self.latest[name] = Progress(name, self._clock.time())
        self._wanted.put_nowait(progress)
        return progress

    async def run(self) -> None:
        """Do what is wanted until cancelled; work that fails changes nothing and is told."""
        while True:
            progress = await self._wanted.get()
            log.info("operation_begun", extra={"operation": progress.name})
            try:
                progress.result = await self._works[progress.name](progress)
                progress.state = "done"
            except PorticoError as error:
                progress.state, progress.error = "failed", error.message
            progress.ended_at = self._clock.time()
            log.info(
                "operation_ended", extra={"operation": progress.name, "reason": progress.error}
            )
