"""One child process: its output in a file, stopped in bounded time, never outliving its parent."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SetupError

POLL_SECONDS = 0.02
KILL_SECONDS = 5.0
LOG_BYTES_MAX = 16 * 1024 * 1024
TAIL_BYTES = 16 * 1024
TAIL_LINES = 15

_WRAPPER = Path(__file__).with_name("child.py")


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and how."""

    arguments: Sequence[str | Path]
    env: Mapping[str, str] | None = None
    """Its whole environment; `None` passes on ours."""
    user: int | None = None
    """User id to become first; `None` stays who we are."""
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it should we die."""


class Child:
    """A process that we start, watch and stop. Start it from the main thread (see the package)."""

    def __init__(self, name: str, command: Command, log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Process id of the present or last run."""
        return self._popen.pid if self._popen else None

    @property
    def exit_status(self) -> int | None:
        """Exit status of the last run, negative for a signal; `None` while running or not begun."""
        return self._popen.poll() if self._popen else None

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start the process; its output is appended to the log."""
        _rotate(self.log)
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._popen = subprocess.Popen(
                [*self._wrapper(), *map(str, self._command.arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._command.env,
                start_new_session=True,  # a Ctrl-C is for the supervisor, which stops in order
            )

    def _wrapper(self) -> list[str]:
        user = "-" if self._command.user is None else str(self._command.user)
        signal_number = str(int(self._command.death_signal))
        return [sys.executable, "-I", "-S", str(_WRAPPER), str(os.getpid()), signal_number, user]

    async def wrote(self, mark: str, seconds: float) -> bool:
        """Whether `mark` appeared in this run's output within `seconds`, and before it ended."""
        return await self.reaches(lambda: mark in self.output(), seconds)

    async def reaches(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether `condition` came true within `seconds`, and before the process ended."""
        await until(lambda: condition() or not self.running, seconds)
        return self.running and condition()

    async def exited(self, seconds: float) -> bool:
        """Whether the process ended within `seconds`."""
        return await until(lambda: not self.running, seconds)

    async def stop(self, seconds: float, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end; kill it if it has not after `seconds`. Idempotent."""
        self.send(how)
        if not await self.exited(seconds):
            await self.kill()

    async def kill(self) -> None:
        """End the process as a crash would."""
        self.send(signal.SIGKILL)
        await self.exited(KILL_SECONDS)

    def send(self, what: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self._popen is not None:
            self._popen.send_signal(what)

    def output(self) -> str:
        """What this run has written so far, at most the last 16 KiB."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - TAIL_BYTES))
            return file.read().decode(errors="replace")

    def failure(self, what: str, advice: str) -> SetupError:
        """An error that says what went wrong, what the process last wrote, and what to do."""
        status = "" if self.exit_status is None else f" (exit status {self.exit_status})"
        tail = "\n".join(f"    {self.name} | {line}" for line in _last_lines(self.output()))
        return SetupError(f"{what}{status}.\n{tail}\n  Whole log: {self.log}\n  {advice}")


def _last_lines(text: str) -> list[str]:
    return text.splitlines()[-TAIL_LINES:] or ["(wrote nothing)"]


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
