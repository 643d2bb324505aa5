"""The edge to ClickHouse: embedded in the process or a server, the same calls, our errors.

Embedded is the ClickHouse engine in this process (chdb) with a folder on disk; `CLICKHOUSE_URL`
chooses a server instead. The driver is synchronous, so calls run on a few threads, each with a
connection of its own; a call whose task is cancelled, or whose time is up, is killed by its tag.
Queries wait for a connection in fair turns (`shared.turns`).

Traps that the callers rely on being handled here: one process may use a folder, and a process one
folder; an embedded insert goes through a temporary file, which a killed process leaves behind.
"""

import asyncio
import fcntl
import logging
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from shared.errors import (
    InvalidError,
    OverloadedError,
    SetupError,
    TooCostlyError,
    UnavailableError,
)
from shared.turns import Turns

log = logging.getLogger(__name__)

T = TypeVar("T")
Client = Any
"""A connection of the driver, which ships no types."""

READERS: Final = 3
WRITERS: Final = 2
QUERY_SECONDS: Final = 20.0
WRITE_WAIT_SECONDS_MAX: Final = 60.0
READS_END_SECONDS_MAX: Final = 180.0
"""Longer than any query runs, a piece of an export included."""
KILL_SECONDS: Final = 5.0
"""After its own limit a query gets this long to end by itself."""
_TIMEOUT: Final = 159
_MEMORY: Final = 241
_HOLDER: Final = "held"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")

ENGINE: Final = {
    "mark_cache_size": 64 << 20,
    "index_mark_cache_size": 16 << 20,
    "index_uncompressed_cache_size": 64 << 20,
    "primary_index_cache_size": 32 << 20,
    "query_condition_cache_size": 4 << 20,
    "max_server_memory_usage": 2_400 << 20,
    "max_thread_pool_size": 200,
    "max_active_parts_loading_thread_pool_size": 2,
    "max_outdated_parts_loading_thread_pool_size": 1,
    "max_parts_cleaning_thread_pool_size": 2,
}
"""The embedded engine's sizes: its defaults are made for a machine of its own. Filters of ids are
kept unpacked, 10 bits a row, which takes a quarter off the look for one row by its id."""

QUERY_SETTINGS: Final = {
    "max_memory_usage": 800 << 20,
    "max_bytes_before_external_group_by": 400 << 20,
    "max_bytes_before_external_sort": 150 << 20,
    "max_threads": 2,
    "use_uncompressed_cache": 0,
    "do_not_merge_across_partitions_select_final": 1,
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    "compile_sort_description": 0,
}
"""Partitions stand alone where a row's follows from its key, as in all our tables. Compiling
makes our reports no faster, and one of each kind 0.2 s slower: the third of it."""
TEXT_SETTINGS: Final = {
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_decimals": 0,
    "output_format_json_escape_forward_slashes": 0,
    "output_format_json_named_tuples_as_objects": 1,
}
INSERT_SETTINGS: Final = {
    "async_insert": 0,
    "input_format_parallel_parsing": 0,
    "input_format_skip_unknown_fields": 1,
    "input_format_json_named_tuples_as_objects": 1,
    "input_format_json_defaults_for_missing_elements_in_named_tuple": 1,
    "input_format_json_ignore_unknown_keys_in_named_tuple": 1,
    "max_insert_block_size": 65_536,
    "materialize_skip_indexes_on_insert": 0,
    "optimize_on_insert": 0,
    "max_partitions_per_insert_block": 0,
}
"""Facts of any number of months may come together: refusing them would stop the log for ever. The
two before leave to merges what they do anyway: a tenth more events a second. Until then a row
by its id is looked for in all of a new part, and FINAL drops what a part has twice."""

_PASSING: Final = frozenset(
    {74, 75, 76, 159, 202, 209, 210, 241, 242, 243, 252, 285, 394, 425, 439, 999}
)
"""Error codes that may pass: files, disk, time-outs, memory, parts, network, Keeper."""
_REFUSED: Final = frozenset(
    {6, 25, 26, 27, 38, 41, 53, 69, 70, 72, 117, 130, 131, 321, 407, 441, 469}
)
"""Error codes about the inserted data: it cannot be parsed, or is out of range."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise the driver's errors as ours, naming what was being done.

    Raises:
        InvalidError: the data cannot be stored as it is.
        TooCostlyError: a query takes more time or memory than it may.
        UnavailableError: the server or its connection failed; it may recover.
    """
    try:
        yield
    except DatabaseError as error:
        code = getattr(error, "code", None)
        if code in (_TIMEOUT, _MEMORY):
            raise _too_costly(code) from error
        if code in _REFUSED:
            raise InvalidError(f"{doing}: {_first_line(error)}") from error
        if code in _PASSING or code is None:
            raise UnavailableError(f"{doing}: ClickHouse: {_first_line(error)}") from error
        raise
    except (ClickHouseError, OSError) as error:
        raise UnavailableError(f"{doing}: ClickHouse: {_first_line(error)}") from error


def _too_costly(code: int) -> TooCostlyError:
    what = "time" if code == _TIMEOUT else "memory"
    return TooCostlyError(
        f"The answer takes more {what} than one request may; ask for fewer days, for fewer columns "
        "or for less by filters",
        retry_after_seconds=5,
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0][:500]


class _Connections:
    """Connections that are lent in fair turns, to one caller at a time each."""

    def __init__(self, connect: Callable[[], Client], count: int, turns: Turns) -> None:
        self.count = count
        self._connect = connect
        self._free = [connect() for _ in range(count)]
        self._turns = turns

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return self._turns.waiting

    async def take(self, who: Hashable, current: Callable[[], str]) -> Client:
        """A free one, once it is `who`'s turn, of the database that is `current` by then."""
        await self._turns.take(who)
        client, database = self._free.pop(), current()
        if client.database == database:
            return client
        try:
            with translated("connecting to ClickHouse"):
                return await asyncio.to_thread(self._renewed, client, database)
        except BaseException:
            self.give_back(who, client)
            raise

    def give_back(self, who: Hashable, client: Client) -> None:
        """The call has really ended."""
        self._free.append(client)
        self._turns.give_back(who)

    def close(self) -> None:
        """Close all; none is lent."""
        while self._free:
            self._free.pop().close()

    def _renewed(self, client: Client, database: str) -> Client:
        """An embedded connection cannot leave a database that has been dropped meanwhile."""
        renewed = self._connect()
        renewed.database = database
        client.close()
        return renewed


class ClickHouse:
    """One database, through a few connections; made by `open_clickhouse`.

    Attributes:
        database: its name.
        is_embedded: whether the engine runs in this process.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        database: str,
        is_embedded: bool,
        readers: int,
        writers: int,
        query_seconds: float = QUERY_SECONDS,
        whose: Callable[[Mapping[str, Any]], Hashable] | None = None,
        spent: Callable[[int, int], None] = lambda _rows, _bytes: None,
    ) -> None:
        self.database = database
        self.is_embedded = is_embedded
        self._query_seconds = query_seconds
        self._whose = whose
        self._spent = spent
        self._connect = connect
        self._threads = ThreadPoolExecutor(readers + writers + 1, thread_name_prefix="clickhouse")
        self._readers = _Connections(
            connect, readers, Turns(readers, each_max=None if whose else readers)
        )
        self._writers = _Connections(
            connect,
            writers,
            Turns(writers, each_max=writers, wait_seconds_max=WRITE_WAIT_SECONDS_MAX),
        )
        self._killer = connect()
        self._killer.database = None

    async def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = None,
        settings: Mapping[str, Any] | None = None,
        texts_as_bytes: bool = False,
    ) -> Sequence[tuple[Any, ...]]:
        """The rows of a SELECT.

        Args:
            sql: with parameters as `{name:Type}`, which are bound by the server.
            parameters: their values.
            seconds: limit of its run, beyond which it is killed; None for the usual one.
            settings: more of the engine's.
            texts_as_bytes: leave texts as they are stored, UTF-8, rather than decode them.

        Raises:
            OverloadedError: it takes more time or memory than it may, or waits too long.
            UnavailableError: ClickHouse does not answer in time.
        """
        seconds = seconds or self._query_seconds
        chosen = QUERY_SETTINGS | {"max_execution_time": seconds} | dict(settings or {})
        formats = {"String": "bytes"} if texts_as_bytes else None
        tag = _tag()

        def work(client: Client) -> Sequence[tuple[Any, ...]]:
            result = client.query(
                f"{tag} {sql}",
                parameters=dict(parameters or {}),
                settings=chosen,
                query_formats=formats,
            )
            cost = result.summary
            self._spent(int(cost.get("read_rows", 0)), int(cost.get("read_bytes", 0)))
            rows: Sequence[tuple[Any, ...]] = result.result_rows
            return rows

        who = self._whose(parameters or {}) if self._whose else None
        return await self._timed(self._readers, work, who=who, tag=tag, seconds=seconds)

    async def text(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        form: str = "JSONEachRow",
        seconds: float = QUERY_SECONDS,
        settings: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The rows of a SELECT as text of ClickHouse's own making, without objects in between.

        Args:
            sql: as of `query`.
            parameters: their values.
            form: a format of ClickHouse that answers in lines; JSON numbers are exact.
            seconds: limit of its run; beyond it the query is killed.
            settings: more of the engine's.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        chosen = QUERY_SETTINGS | TEXT_SETTINGS | {"max_execution_time": seconds}
        chosen |= dict(settings or {})
        # not as an argument: the embedded driver would run two statements for each setting
        assigned = ", ".join(f"{name} = {value!r}" for name, value in chosen.items())
        tag = _tag()

        def work(client: Client) -> bytes:
            found: bytes = client.raw_query(
                f"{tag} {sql} FORMAT {form} SETTINGS {assigned}", parameters=dict(parameters or {})
            )
            return found

        who = self._whose(parameters or {}) if self._whose else None
        return await self._timed(self._readers, work, who=who, tag=tag, seconds=seconds)

    async def insert(self, table: str, rows: bytes, *, seconds: float = 60.0) -> None:
        """Insert JSON objects, one after another, as they are.

        Raises:
            InvalidError: some row cannot be stored; none was.
            UnavailableError: ClickHouse did not confirm; the rows may or may not be there.
        """

        def work(client: Client) -> None:
            target = f"{client.database}.{table}"
            client.raw_insert(
                target, insert_block=rows, fmt="JSONEachRow", settings=INSERT_SETTINGS
            )

        await self._timed(self._writers, work, seconds=seconds)

    async def command(self, sql: str, *, seconds: float = 60.0) -> None:
        """Run a statement that returns nothing.

        Raises:
            UnavailableError: ClickHouse does not answer in time.
        """
        await self._timed(self._writers, lambda client: client.command(sql), seconds=seconds)

    async def _timed(
        self,
        connections: _Connections,
        work: Callable[[Client], T],
        *,
        seconds: float,
        who: Hashable = None,
        tag: str = "",
    ) -> T:
        """The outcome of `work` on a connection; it may wait for one and then run for `seconds`."""
        client = await connections.take(who, self._current)
        try:
            async with asyncio.timeout(seconds + KILL_SECONDS):
                with translated("asking ClickHouse" if tag else "writing to ClickHouse"):
                    return await self._run(
                        work, client, lambda: connections.give_back(who, client), tag
                    )
        except TimeoutError as error:
            raise UnavailableError("ClickHouse: no answer in time") from error

    async def _run(
        self, work: Callable[[Client], T], client: Client, give_back: Callable[[], None], tag: str
    ) -> T:
        """Run `work` on a thread; its connection is free again once it has really ended."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, client)

        def ended(done: "asyncio.Future[T]") -> None:
            give_back()
            if not done.cancelled():
                done.exception()  # it has been seen, even if nobody waits any more

        future.add_done_callback(ended)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if tag and not future.done():
                self._threads.submit(self._kill, tag)
            raise

    def use(self, database: str) -> None:
        """Ask and write another database from the next call on; calls that run end where they are.

        Raises:
            SetupError: it is no plain identifier.
        """
        if not _NAME.fullmatch(database):
            raise SetupError(
                f"ClickHouse database {database!r}: use lower-case letters, digits, _."
            )
        self.database = database

    def _current(self) -> str:
        return self.database

    async def reads_ended(self) -> None:
        """Wait until no query runs that began before `use`: then what it read may be dropped.

        Raises:
            OverloadedError: they take longer than `READS_END_SECONDS_MAX`.
        """
        give_up_at = asyncio.get_running_loop().time() + READS_END_SECONDS_MAX
        held: list[tuple[Hashable, Client]] = []
        try:
            while len(held) < self._readers.count:
                who = (_HOLDER, len(held))  # nobody is given all connections
                try:
                    held.append((who, await self._readers.take(who, self._current)))
                except OverloadedError:  # a turn is not waited for as long as a query may run
                    if asyncio.get_running_loop().time() > give_up_at:
                        raise
        finally:
            for holder, lent in held:
                self._readers.give_back(holder, lent)

    @asynccontextmanager
    async def writes_held(self) -> AsyncIterator[None]:
        """No insert and no command runs inside the block, nor begins; they wait for its end."""
        held: list[Client] = []
        try:
            while len(held) < self._writers.count:
                held.append(await self._writers.take(_HOLDER, self._current))
            yield
        finally:
            for client in held:
                self._writers.give_back(_HOLDER, client)

    @asynccontextmanager
    async def beside(self, database: str) -> AsyncIterator["ClickHouse"]:
        """Another database of the same engine or server, created if it is missing."""
        await self.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        other = await asyncio.to_thread(
            lambda: ClickHouse(
                self._connect,
                database="default",
                is_embedded=self.is_embedded,
                readers=1,
                writers=2,
            )
        )
        other.use(database)
        try:
            yield other
        finally:
            await other.aclose()

    @property
    def queries_waiting(self) -> int:
        """How many queries wait for their turn."""
        return self._readers.waiting

    def _kill(self, tag: str) -> None:
        try:
            self._killer.command(f"KILL QUERY WHERE startsWith(query, '{tag}') ASYNC")
        except ClickHouseError as error:
            log.warning("kill_failed", extra={"reason": _first_line(error)})

    async def aclose(self) -> None:
        """Wait for what runs, then close every connection."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown(wait=True)
        self._readers.close()
        self._writers.close()
        self._killer.close()


def _require_name(database: str) -> None:
    if not _NAME.fullmatch(database):
        raise SetupError(f"ClickHouse database {database!r}: use lower-case letters, digits, _.")


def _tag() -> str:
    return f"/* portico {uuid.uuid4().hex} */"


@asynccontextmanager
async def open_clickhouse(
    *,
    path: Path,
    database: str,
    url: str | None = None,
    readers: int = READERS,
    writers: int = WRITERS,
    query_seconds: float = QUERY_SECONDS,
    whose: Callable[[Mapping[str, Any]], Hashable] | None = None,
    spent: Callable[[int, int], None] = lambda _rows, _bytes: None,
) -> AsyncIterator[ClickHouse]:
    """The database `database`, created if it is missing.

    Args:
        path: folder of the embedded engine; not used with `url`.
        database: a plain identifier.
        url: `http[s]://user:password@host:port` of a server; None for the embedded engine.
        readers: how many queries run at once.
        writers: how many inserts run at once.
        query_seconds: how long a query may run unless it says otherwise.
        whose: by a query's parameters, who asks: each has a fair share of the readers. Without
            it all queries are one asker's, who may have all of them.
        spent: told the rows and bytes that each query has read; called on a thread.

    Raises:
        SetupError: another process has the folder, or the server does not answer.
    """
    _require_name(database)
    with _folder(path) if url is None else _no_folder():

        def open_all() -> ClickHouse:
            def connect(name: str | None = database) -> Client:
                client = connection(path, url)
                client.database = name
                return client

            first = connect(None)
            first.command(f"CREATE DATABASE IF NOT EXISTS {database}")
            opened = ClickHouse(
                connect,
                database=database,
                is_embedded=url is None,
                readers=readers,
                writers=writers,
                query_seconds=query_seconds,
                whose=whose,
                spent=spent,
            )
            first.close()
            return opened

        try:
            clickhouse = await asyncio.to_thread(open_all)
        except (ClickHouseError, OSError) as error:
            where = "CLICKHOUSE_URL" if url else f"The ClickHouse folder {path}"
            raise SetupError(f"{where}: {_first_line(error)}") from error
        try:
            yield clickhouse
        finally:
            await clickhouse.aclose()


_get_client: Final[Callable[..., Client]] = clickhouse_connect.get_client


def connection(path: Path, url: str | None = None) -> Client:
    """A connection of the driver's own, to a server or to the embedded engine of a folder."""
    if url is not None:
        return _get_client(dsn=url, autogenerate_session_id=False)
    return _get_client(
        interface="chdb",
        path=str(path / "data"),
        chdb_options={name: str(value) for name, value in ENGINE.items()},
    )


@contextmanager
def _no_folder() -> Iterator[None]:
    yield


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Hold the folder against other processes, and give embedded inserts a place in it.

    The driver writes an insert to a file of `tempfile` and offers no other way, so `tempfile` is
    pointed to a folder that is emptied at every start.
    """
    temporary = path / "inserts"
    temporary.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(
                f"The ClickHouse folder {path} is in use by another process. Stop that one, or set "
                "REPORTING_CLICKHOUSE_PATH to another folder."
            ) from error
        for left in temporary.iterdir():
            left.unlink()
        before = tempfile.tempdir
        tempfile.tempdir = str(temporary.resolve())
        try:
            yield
        finally:
            tempfile.tempdir = before
