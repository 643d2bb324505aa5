"""The whole platform on this machine, up between `async with` and its end.

    async with Stack(settings, say=print) as stack:
        print(stack.urls["gateway"], stack.ready_seconds)
        raise await stack.failed()

Entering returns when every `/readyz` is true, or raises one `SetupError` that says what to do.
SIGINT, SIGTERM or SIGHUP cancels the body and stops everything in order; the block then ends
normally, with `interrupted` set (before it was entered: `StoppedError`). A second signal kills what
is left.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Self

import psutil

from deploy.local import home, ports, programs, readiness, secrets
from deploy.local.config import StackSettings
from deploy.local.kafka import Kafka
from deploy.local.postgres import Postgres
from deploy.local.process import Child, Command
from deploy.local.programs import Program
from deploy.local.supervisor import Say, Supervised, Supervisor, Worker
from shared import topics
from shared.errors import PorticoError, SetupError, UnavailableError

READY_SECONDS = 180.0
MEGABYTE = 1_000_000

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(PorticoError):
    """The platform was told to stop before it was ready."""


class Stack:
    """The platform's processes; see the module for how to use it."""

    def __init__(
        self,
        settings: StackSettings,
        *,
        say: Say = lambda _: None,
        table: tuple[Program, ...] = programs.PROGRAMS,
    ) -> None:
        self.settings = settings
        self.interrupted = False
        self.ready_seconds = 0.0
        """How long it took from the start until everything was ready."""
        self.env: Mapping[str, str] = {}
        """What the services' environment holds beside ours; `portico` commands need it too."""
        self.secrets: secrets.Secrets
        self.urls = {program.name: programs.url(settings, program) for program in table}
        """Base URL of each program by name."""
        self._stopping = False
        self._say = say
        self._table = table
        self._supervisor = Supervisor(say)
        self._failure: asyncio.Future[SetupError]
        self._exit: AsyncExitStack

    @property
    def processes(self) -> dict[str, Child]:
        """Every process by name: the programs, and Kafka and Postgres if they are ours."""
        return {name: member.child for name, member in self._supervisor.members.items()}

    @property
    def restarts(self) -> int:
        """How often a process died and was started again."""
        return self._supervisor.restarts

    async def failed(self) -> SetupError:
        """Wait until the platform cannot go on; returns why."""
        return await asyncio.shield(self._failure)

    def rss_mb(self) -> dict[str, float]:
        """Resident memory of each Python process in megabytes, `supervisor` being this one."""
        pids = {program.name: self.processes[program.name].pid for program in self._table}
        found = {}
        for name, pid in {**pids, "supervisor": os.getpid()}.items():
            try:
                found[name] = psutil.Process(pid).memory_info().rss / MEGABYTE
            except psutil.NoSuchProcess:  # died a moment ago; its successor counts next time
                found[name] = 0.0
        return found

    async def __aenter__(self) -> Self:
        self._failure = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as exit_stack:
            exit_stack.enter_context(self._signals())
            try:
                await self._enter(exit_stack)
            except asyncio.CancelledError:
                self._refuse_if_interrupted()
                raise
            self._exit = exit_stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        forgiven = isinstance(error, asyncio.CancelledError) and self._forgive_interruption()
        await self._exit.aclose()
        return forgiven

    async def _enter(self, exit_stack: AsyncExitStack) -> None:
        started = time.monotonic()
        exit_stack.enter_context(home.locked(self.settings.home))
        self._check_ports()
        exit_stack.push_async_callback(self._stop)
        await self._start_together(self._stores())
        await self._apply_topics()
        self.secrets = secrets.ensure(self.settings.home.absolute() / "secrets")
        self.env = programs.environment(self.settings, self.secrets)
        await self._start_programs()
        self.ready_seconds = time.monotonic() - started
        group = await exit_stack.enter_async_context(asyncio.TaskGroup())
        watching = group.create_task(self._watch(), name="supervisor")
        exit_stack.callback(watching.cancel)

    def _check_ports(self) -> None:
        names = [program.name for program in self._table]
        if self.settings.kafka_bootstrap is None:
            names += ["kafka", "kafka_controller"]
        if self.settings.database_url is None:
            names.append("postgres")
        problems = [_in_use(name, self.settings.port(name)) for name in names]
        if any(problems):
            raise SetupError("\n".join(filter(None, problems)))

    def _stores(self) -> list[Supervised]:
        """The Kafka and Postgres to start: none for which one was given."""
        settings, logs = self.settings, self.settings.home / "logs"
        kafka = Kafka(
            settings.home / "kafka",
            port=settings.kafka_port,
            controller_port=settings.kafka_controller_port,
            libs=settings.kafka_libs,
            log=logs / "kafka.log",
        )
        postgres = Postgres(
            settings.home / "postgres",
            port=settings.postgres_port,
            durable=settings.durable,
            log=logs / "postgres.log",
        )
        stores: list[tuple[Supervised, object]] = [
            (kafka, settings.kafka_bootstrap),
            (postgres, settings.database_url),
        ]
        return [store for store, given in stores if given is None]

    async def _start_together(self, members: list[Supervised]) -> None:
        for member in members:
            self._supervisor.add(member)
        try:
            async with asyncio.TaskGroup() as group:
                for member in members:
                    group.create_task(self._start(member), name=f"start {member.name}")
        except* SetupError as problems:
            raise problems.exceptions[0] from None

    async def _start(self, member: Supervised) -> None:
        started = time.monotonic()
        await member.start()
        self._say(f"{member.name} started ({time.monotonic() - started:.1f} s)")

    async def _apply_topics(self) -> None:
        try:
            report = await topics.apply(self.settings.bootstrap)
        except UnavailableError as error:
            raise SetupError(
                f"Kafka at {self.settings.bootstrap} does not answer ({error}). "
                "Start it, or unset KAFKA_BOOTSTRAP to have one started."
            ) from error
        self._say(f"topics: {len(report.created)} created, {len(report.unchanged)} as they were")

    async def _start_programs(self) -> None:
        for program in self._table:
            command = Command([sys.executable, "-m", program.module], {**os.environ, **self.env})
            log = self.settings.home / "logs" / f"{program.name}.log"
            member = Worker(Child(program.name, command, log))
            self._supervisor.add(member)
            await member.start()
        self._say(f"{len(self._table)} processes started; waiting until they are ready")
        children = {program.name: self.processes[program.name] for program in self._table}
        await readiness.until_ready(children, self.settings.port, READY_SECONDS, self._say)

    async def _watch(self) -> None:
        reason = await self._supervisor.watch()
        self._say(str(reason))
        self._failure.set_result(reason)

    async def _stop(self) -> None:
        self._stopping = True
        self._say("stopping")
        await self._supervisor.stop(programs.STOP_STEPS)
        self._say("stopped")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def on_signal() -> None:
            if self._stopping:
                self._supervisor.kill()
            elif task and not self.interrupted:
                self.interrupted = True
                task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _refuse_if_interrupted(self) -> None:
        if self._forgive_interruption():
            raise StoppedError from None

    def _forgive_interruption(self) -> bool:
        task = asyncio.current_task()
        if self.interrupted and task:
            task.uncancel()
        return self.interrupted


def _in_use(name: str, port: int) -> str | None:
    if ports.is_free(port):
        return None
    holder = ports.holder(port)
    by = f" by {holder}" if holder else ""
    return f"Port {port} ({name}) is in use{by}: stop that, or set {name.upper()}_PORT to another."
