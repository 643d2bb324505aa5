"""The record of a played story: steps with what they found, and the figures."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.clock import Clock
from shared.errors import PorticoError

T = TypeVar("T")

PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.1


class StepError(PorticoError):
    """A step did not go as promised; the message says what was seen."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it went."""

    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(slots=True)
class Figures:
    """What was measured; -1 where it could not be."""

    revocation_p99_ms: float = -1
    report_equals_ledger: bool = False
    firehose_events: int = 0
    firehose_lost: int = -1
    firehose_repeated: int = -1
    audit_entries: int = 0
    audit_verified: bool = False
    anomalies: int = 0
    rss_mb: float = -1


@dataclass
class Record:
    """The story so far."""

    clock: Clock
    figures: Figures = field(default_factory=Figures)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Time runs from here."""
        self._began = self.clock.monotonic()

    @property
    def ok(self) -> bool:
        """Whether there are steps and each went as promised."""
        return bool(self.steps) and all(step.ok for step in self.steps)

    async def play(self, name: str, act: Callable[[], Awaitable[str]]) -> Step:
        """Play one step: its text is the detail; whatever breaks it fails it, and is told."""
        began = self.clock.monotonic()
        try:
            ok, detail = True, await act()
        except Exception as error:  # noqa: BLE001 - the story goes on, the record says no
            ok, detail = False, _told(error)
        step = Step(name, ok, round(self.clock.monotonic() - began, 3), detail)
        self.steps.append(step)
        return step

    def fail(self, name: str, detail: str) -> None:
        """Note what went wrong outside a step."""
        self.steps.append(Step(name, ok=False, seconds=0.0, detail=detail))

    def as_dict(self) -> dict[str, Any]:
        """What is written."""
        return {
            "ok": self.ok,
            "seconds": round(self.clock.monotonic() - self._began, 3),
            "steps": [asdict(step) for step in self.steps],
            "figures": asdict(self.figures),
        }

    def write(self, file: Path) -> None:
        """Write the record as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.as_dict(), indent=2) + "\n")


def _told(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(_told(inner) for inner in error.exceptions)
    return str(error) if isinstance(error, PorticoError) else repr(error)


def check(condition: object, told: str) -> None:
    """Go on only if `condition` holds.

    Raises:
        StepError: it does not.
    """
    if not condition:
        raise StepError(told)


async def until(
    clock: Clock,
    what: str,
    probe: Callable[[], Awaitable[T | None]],
    seconds: float = PATIENCE_SECONDS,
    pause: float = PAUSE_SECONDS,
) -> T:
    """The first thing that `probe` finds; it is asked again as long as it finds nothing.

    Raises:
        StepError: nothing was found in time; the message says `what` was awaited.
    """
    deadline = clock.monotonic() + seconds
    while True:
        found = await probe()
        if found is not None:
            return found
        if clock.monotonic() > deadline:
            raise StepError(f"waited {seconds:.0f} s in vain for {what}")
        await clock.sleep(pause)
