"""The life of a process: settings, start in order, supervised tasks, drain, stop.

A service hands `run` a `Service`. Its `open` enters whatever it needs and yields the ASGI
application, or a server of its own; background work is given to the `Lifecycle` as named tasks, and
a task that ends or fails ends the process (a supervisor restarts it): nothing dies quietly.

Stop (SIGTERM or SIGINT): not ready, drain hooks, requests in flight finish within `drain_seconds`,
tasks are cancelled, resources close in reverse. A second signal forces. Exit status: 0 after a
stop, 1 after a failure, 2 for a wrong set-up, 3 when fenced by a successor.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, runtime_checkable

import uvicorn
import uvloop

from shared.config import ServiceSettings
from shared.errors import FencedError, SetupError
from shared.http import AsgiApp, Operations
from shared.observability import configure_logging

log = logging.getLogger(__name__)

ReadyCheck = Callable[[], str | None]
"""Says what is still missing, or None when ready."""

CONNECTIONS_MAX: Final = 4096
FILES_WANTED: Final = 65_536
EXIT_FAILED: Final = 1
EXIT_SETUP: Final = 2
EXIT_FENCED: Final = 3


@dataclass
class Lifecycle:
    """What a service's `open` registers with the process."""

    checks: dict[str, ReadyCheck] = field(default_factory=dict)
    drains: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = field(default_factory=list)

    def ready_when(self, name: str, check: ReadyCheck) -> None:
        """`/readyz` asks `check`: None, or what is missing."""
        self.checks[name] = check

    def run_task(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` beside the server; its end or failure stops the process."""
        self._tasks.append((name, work))

    def on_drain(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Await `hook` when a stop begins, before the server stops taking requests."""
        self.drains.append(hook)

    def missing(self) -> dict[str, str]:
        """What keeps the process from being ready, by check; empty when it is."""
        if self.stopping.is_set():
            return {"process": "stopping"}
        found = {name: check() for name, check in self.checks.items()}
        return {name: reason for name, reason in found.items() if reason is not None}


@runtime_checkable
class Server(Protocol):
    """What answers on the port: uvicorn with an application, or what a service brings."""

    async def serve(self, listener: socket.socket) -> None:
        """Listen and answer; returns once stopped and drained."""
        ...

    def stop(self) -> None:
        """Take no more, finish what is in flight."""
        ...

    def force(self) -> None:
        """Stop at once."""
        ...


@dataclass(frozen=True)
class Service:
    """A process to run.

    Attributes:
        name: as in logs.
        settings: where to listen, how long to drain.
        open: opens resources in order of need and yields the application, or a server that also
            answers the operations paths; closes in reverse.
        metrics: renders the service's registry for `/metrics`.
        shares_port: whether other processes may listen on the same port.
    """

    name: str
    settings: ServiceSettings
    open: Callable[[Lifecycle], AbstractAsyncContextManager[AsgiApp | Server]]
    metrics: Callable[[], bytes]
    shares_port: bool = False


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handling: this file alone owns the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _AsgiServer:
    """Serves an application by uvicorn."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._inner = _Uvicorn(config)

    async def serve(self, listener: socket.socket) -> None:
        await self._inner.serve([listener])

    def stop(self) -> None:
        self._inner.should_exit = True

    def force(self) -> None:
        self._inner.force_exit = True


def run(build: Callable[[], Service]) -> NoReturn:
    """Build and run a service until it is told to stop; never returns.

    Args:
        build: reads the settings and wires the service; opens nothing.
    """
    try:
        service = build()
        configure_logging(service.name, service.settings.log_level)
        allow_open_files()
        uvloop.run(serve(service))
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_SETUP)
    except Exception as error:  # noqa: BLE001 - the last stop of every failure
        sys.exit(_report(error))
    sys.exit(0)


def allow_open_files() -> int:
    """Let the process open as many files as the system grants it; how many that is.

    Each connection is one. The usual soft limit of 1,024 lies below every bound on connections, so
    that new clients would hang instead of being told that there is no room.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = map(_bounded, limits)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):  # some systems grant less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, limits[1]))
            soft = hard
    if soft < CONNECTIONS_MAX:
        log.warning("few open files", extra={"limit": soft, "wanted": CONNECTIONS_MAX})
    return soft


def _bounded(limit: int) -> int:
    return FILES_WANTED if limit == resource.RLIM_INFINITY else min(limit, FILES_WANTED)


def _report(error: BaseException) -> int:
    """Log why the process ends, and say with which status."""
    for leaf in _leaves(error):
        if isinstance(leaf, SetupError):
            sys.stderr.write(f"{leaf}\n")
            return EXIT_SETUP
        if isinstance(leaf, FencedError):
            log.error("fenced", extra={"reason": leaf.message})
            return EXIT_FENCED
    log.critical("failed", exc_info=error)
    return EXIT_FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


async def serve(service: Service, stop: asyncio.Event | None = None) -> None:
    """Run `service` until a signal, or until `stop` is set.

    Raises:
        Exception: whatever a task or the server raised, in a group.
    """
    lifecycle = Lifecycle(stopping=stop or asyncio.Event())
    listener = _bind(service)
    async with service.open(lifecycle) as app:
        server = app if isinstance(app, Server) else _server(service, app, lifecycle)
        async with _signals(lifecycle, server), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_guarded(name, work, lifecycle), name=name)
                for name, work in lifecycle._tasks  # noqa: SLF001 - the two are one mechanism
            ]
            serving = group.create_task(server.serve(listener), name="server")
            serving.add_done_callback(lambda _: lifecycle.stopping.set())
            _settle_garbage()
            log.info("serving", extra={"address": "{}:{}".format(*listener.getsockname()[:2])})
            await lifecycle.stopping.wait()
            log.info("stopping")
            for hook in lifecycle.drains:
                await hook()
            server.stop()
            await serving
            for task in tasks:
                task.cancel()
    log.info("stopped")


def _bind(service: Service) -> socket.socket:
    """Take the port before anything is opened, so that a taken one fails at once; listen later."""
    settings = service.settings
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if service.shares_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        prefix = settings.model_config.get("env_prefix") or ""
        raise SetupError(
            f"{service.name}: cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
            f"Stop what uses the port, or set {prefix}PORT."
        ) from error
    return listener


def _server(service: Service, app: AsgiApp, lifecycle: Lifecycle) -> Server:
    settings = service.settings
    config = uvicorn.Config(
        Operations(app, lifecycle.missing, service.metrics),
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=int(settings.drain_seconds) or 1,
    )
    return _AsgiServer(config)


async def _guarded(
    name: str, work: Callable[[], Coroutine[Any, Any, None]], lifecycle: Lifecycle
) -> None:
    """Run `work`; that it ends while the process is not stopping is a failure.

    So is a cancellation that nobody asked for: a library let out that of a task of its own, and the
    group would take it for the end of this one.
    """
    try:
        await work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    if not lifecycle.stopping.is_set():
        raise RuntimeError(f"task {name} ended although the process is not stopping")


@asynccontextmanager
async def _signals(lifecycle: Lifecycle, server: Server) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if lifecycle.stopping.is_set():
            server.force()
        lifecycle.stopping.set()

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
    except (RuntimeError, ValueError):  # not in the main thread: the caller's `stop` decides
        yield
        return
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _settle_garbage() -> None:
    """Keep start-up's objects out of collections: they made the p99 of a busy server."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
