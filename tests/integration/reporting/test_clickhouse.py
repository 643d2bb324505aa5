"""Protects the edge to ClickHouse: its errors are ours, its limits hold, its folder is one's own."""

import asyncio
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from shared.clickhouse import ClickHouse, open_clickhouse
from shared.errors import InvalidError, OverloadedError, SetupError
from shared.hangup import HangUp
from tests.backends import CLICKHOUSE_URL

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 0"
RUNNING = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number)%'"


async def none_running(clickhouse: ClickHouse) -> None:
    """Wait until no endless query runs any more (the question itself is one that matches)."""
    deadline = asyncio.get_running_loop().time() + 30
    while list(await clickhouse.query(RUNNING)) != [(1,)]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def test_a_query_beyond_its_time_is_killed(clickhouse: ClickHouse) -> None:
    """The caller is told to ask for less, and the engine is free."""
    with pytest.raises(OverloadedError, match="more time than one request may; ask for fewer days"):
        await clickhouse.query(ENDLESS, seconds=0.3)
    await none_running(clickhouse)


async def test_a_query_whose_caller_is_gone_is_killed(clickhouse: ClickHouse) -> None:
    """A partner who hangs up leaves nothing running, and the connections serve on."""
    asking = [asyncio.ensure_future(clickhouse.query(ENDLESS, seconds=60)) for _ in range(2)]
    while list(await clickhouse.query(RUNNING)) != [(3,)]:
        await asyncio.sleep(0.02)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert all(task.cancelled() for task in asking)
    await none_running(clickhouse)
    assert await asyncio.gather(*(clickhouse.query("SELECT 1") for _ in range(8))) == [[(1,)]] * 8


async def test_a_partner_who_hangs_up_ends_their_query(clickhouse: ClickHouse) -> None:
    """Over a real connection: when it closes, the query is killed, long before its time is up."""

    async def app(_scope, receive, _send) -> None:
        await receive()
        await clickhouse.query(ENDLESS, seconds=60)

    config = uvicorn.Config(HangUp(app), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.ensure_future(server._serve([listener]))
    _, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    while list(await clickhouse.query(RUNNING)) != [(2,)]:
        await asyncio.sleep(0.02)
    writer.close()
    await none_running(clickhouse)
    server.should_exit = True
    await serving


async def test_one_partners_queries_leave_others_their_turn(
    clickhouse_folder: Path, database: str
) -> None:
    """A partner with more long queries than there are readers delays nobody else's short one."""
    async with open_clickhouse(
        path=clickhouse_folder,
        database=database,
        url=CLICKHOUSE_URL,
        readers=2,
        whose=lambda values: values.get("partner"),
    ) as clickhouse:
        greedy = [
            asyncio.ensure_future(clickhouse.query(ENDLESS, {"partner": 1}, seconds=60))
            for _ in range(4)
        ]
        while clickhouse.queries_waiting != 3:
            await asyncio.sleep(0.01)
        for _ in range(3):
            assert await clickhouse.query("SELECT 1", {"partner": 2}) == [(1,)]
        assert clickhouse.queries_waiting == 3
        for task in greedy:
            task.cancel()
        await asyncio.wait(greedy)
        await none_running(clickhouse)
        await clickhouse.command(f"DROP DATABASE {database}")


async def test_parameters_are_values_and_never_sql(clickhouse: ClickHouse) -> None:
    """Quotes, backslashes and comments arrive as they are."""
    nasty = "'; DROP TABLE x; -- \\' /* {a:String} ☃ \t\n"
    assert await clickhouse.query("SELECT {a:String}", {"a": nasty}) == [(nasty,)]
    found = await clickhouse.query("SELECT {a:Array(String)}", {"a": [nasty, ""]})
    assert list(found[0][0]) == [nasty, ""]


async def test_rows_that_cannot_be_stored_are_refused_together(clickhouse: ClickHouse) -> None:
    """One bad row takes the insert back; the amounts of good ones are exact."""
    await clickhouse.command(
        "CREATE TABLE t (a UInt8, d Decimal(18, 6)) ENGINE = MergeTree ORDER BY a"
    )
    for bad in (b'{"a":"x"}', b'{"a":1,"a":2}', b'{"a":-1}'):
        with pytest.raises(InvalidError, match="writing to ClickHouse"):
            await clickhouse.insert("t", b'{"a":7}\n' + bad)
    assert await clickhouse.query("SELECT count() FROM t") == [(0,)]
    await clickhouse.insert("t", b'{"a":1,"d":0.1}{"a":2,"d":1e-6}\n {"a":3,\n"d":-2.5e3}')
    found = await clickhouse.query("SELECT a, toString(d) FROM t ORDER BY a")
    assert found == [(1, "0.1"), (2, "0.000001"), (3, "-2500")]


async def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    """A second one is told which, and what to do; leftovers of a killed insert are removed."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys\n"  # noqa: ISC004
            f"lock = open({str(tmp_path / 'lock')!r}, 'w')\n"
            "fcntl.flock(lock, fcntl.LOCK_EX)\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()\n",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SetupError, match="in use by another process"):
            async with open_clickhouse(path=tmp_path, database="x"):
                pass
        holder.communicate()


async def test_leftovers_of_a_killed_insert_are_removed(
    clickhouse_folder: Path, database: str
) -> None:
    """And what this process writes meanwhile goes beside them, not into the system's folder."""
    left = clickhouse_folder / "inserts" / "left.raw"
    left.parent.mkdir(exist_ok=True)
    left.write_text("x")
    before = tempfile.gettempdir()
    async with open_clickhouse(path=clickhouse_folder, database=database) as clickhouse:
        assert not left.exists()
        assert tempfile.gettempdir() == str(left.parent)
        await clickhouse.command(f"DROP DATABASE {database}")
    assert tempfile.gettempdir() == before


async def test_names_that_are_no_identifiers_are_refused(tmp_path: Path) -> None:
    """A database name becomes part of SQL."""
    with pytest.raises(SetupError, match="lower-case letters"):
        async with open_clickhouse(path=tmp_path, database="x; DROP"):
            pass


async def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """By the setting that points to it."""
    with pytest.raises(SetupError, match="CLICKHOUSE_URL"):
        async with open_clickhouse(path=tmp_path, database="x", url="http://127.0.0.1:9"):
            pass


class _Failing:
    """Lends connections, but for the times it is told to fail."""

    def __init__(self, connections: Any, *failures: Exception | None) -> None:
        self._connections = connections
        self._take = connections.take
        self._failures = list(failures)

    async def take(self, *arguments: Any) -> Any:
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        return await self._take(*arguments)


async def test_writes_that_could_not_be_held_go_on(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was held by then is given back."""
    failing = _Failing(clickhouse._writers, None, OverloadedError("waited too long"))
    monkeypatch.setattr(clickhouse._writers, "take", failing.take)
    with pytest.raises(OverloadedError, match="waited too long"):
        async with clickhouse.writes_held():
            pytest.fail("nothing is held")
    async with asyncio.timeout(20), clickhouse.writes_held():
        pass
    await clickhouse.command("SELECT 1")


async def test_reads_that_end_late_are_waited_for(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than a request waits for its turn, but not for ever."""
    failing = _Failing(clickhouse._readers, None, OverloadedError("waited too long"))
    monkeypatch.setattr(clickhouse._readers, "take", failing.take)
    await clickhouse.reads_ended()
    monkeypatch.setattr("shared.clickhouse.READS_END_SECONDS_MAX", -1)
    failing._failures = [OverloadedError("waited too long")]
    with pytest.raises(OverloadedError, match="waited too long"):
        await clickhouse.reads_ended()
    assert list(await clickhouse.query("SELECT 1")) == [(1,)]
