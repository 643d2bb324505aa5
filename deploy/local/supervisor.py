"""Keeps a set of processes alive, and stops them in order.

One that dies is started again at once. One that dies more than five times within a minute is beyond
help: `watch` then ends with the reason, and the owner stops the rest.
"""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from deploy.local.process import Child
from shared.errors import SetupError

Say = Callable[[str], None]
"""Tells the person who started us what happens."""

RESTARTS_MAX = 5
RESTARTS_SECONDS = 60.0
WATCH_SECONDS = 0.1

StopSteps = Sequence[tuple[Sequence[str], float]]
"""Names that stop together, and the seconds after which those that have not are killed."""


class Supervised(Protocol):
    """Something that runs as one process."""

    @property
    def name(self) -> str:
        """As in messages and stop steps."""
        ...

    @property
    def child(self) -> Child:
        """The process."""
        ...

    async def start(self) -> None:
        """Start it; raises SetupError if that is seen to fail."""
        ...

    async def stop(self, seconds: float) -> None:
        """Stop it in order; kill it after `seconds`."""
        ...


class Worker:
    """A process that is started and left to itself."""

    def __init__(self, child: Child) -> None:
        self.name = child.name
        self.child = child

    async def start(self) -> None:
        """Start the process; whether it is ready is for others to ask."""
        self.child.start()

    async def stop(self, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        await self.child.stop(seconds)


class Supervisor:
    """The members it was given, alive until stopped."""

    def __init__(
        self, say: Say, *, restarts_max: int = RESTARTS_MAX, seconds: float = RESTARTS_SECONDS
    ) -> None:
        self.members: dict[str, Supervised] = {}
        self.restarts = 0
        self._say = say
        self._restarts_max = restarts_max
        self._seconds = seconds
        self._deaths: dict[str, deque[float]] = {}

    def add(self, member: Supervised) -> None:
        """Take `member` into care; whoever adds it starts it."""
        self.members[member.name] = member
        self._deaths[member.name] = deque(maxlen=self._restarts_max + 1)

    async def watch(self) -> SetupError:
        """Restart whoever dies; returns, with the reason, when that has become pointless."""
        while True:
            for member in self.members.values():
                if not member.child.running and (reason := await self._restart(member)):
                    return reason
            await asyncio.sleep(WATCH_SECONDS)

    async def _restart(self, member: Supervised) -> SetupError | None:
        deaths = self._deaths[member.name]
        deaths.append(time.monotonic())
        if len(deaths) > self._restarts_max and deaths[-1] - deaths[0] < self._seconds:
            what = f"{member.name} died {len(deaths)} times within {self._seconds:.0f} s"
            return member.child.failure(what, "Mend what its log says, then start again.")
        self._say(f"{member.name} died (exit status {member.child.exit_status}): started again")
        self.restarts += 1
        try:
            await member.start()
        except SetupError as error:
            return error
        return None

    async def stop(self, steps: StopSteps) -> None:
        """Stop all in order; whoever stands in no step stops with the last."""
        named = {name for names, _ in steps for name in names}
        for names, seconds in steps:
            await self._stop_together(
                [self.members[n] for n in names if n in self.members], seconds
            )
        rest = [member for name, member in self.members.items() if name not in named]
        await self._stop_together(rest, steps[-1][1] if steps else 0)

    async def _stop_together(self, members: Iterable[Supervised], seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(member.stop(seconds), name=f"stop {member.name}")

    def kill(self) -> None:
        """End all at once, without order or delay."""
        for member in self.members.values():
            member.child.send(signal.SIGKILL)
