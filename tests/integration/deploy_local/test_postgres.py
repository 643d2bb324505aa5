"""The embedded Postgres keeps its data through stops and crashes, and says why it does not start."""

import contextlib
import socket

import asyncpg
import pytest

from shared.errors import SetupError
from tests.backends import embedded_postgres


@contextlib.asynccontextmanager
async def _running(server):
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def test_rows_survive_a_stop_and_a_crash(tmp_path):
    """What was committed is there after an orderly stop, and after SIGKILL with its stale lock."""
    server = embedded_postgres(tmp_path)
    async with _running(server):
        await _execute(server.url, "CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)")
        await server.stop()
        await server.start()
        await _execute(server.url, "INSERT INTO kept VALUES (2)")
        await server.kill()
        await server.start()

        connection = await asyncpg.connect(server.url)
        rows = await connection.fetch("SELECT a FROM kept ORDER BY a")
        await connection.close()

    assert [row["a"] for row in rows] == [1, 2]


async def test_a_stop_does_not_wait_for_sessions(tmp_path):
    """A client that stays connected does not hold up Ctrl-C."""
    server = embedded_postgres(tmp_path)
    async with _running(server):
        connection = await asyncpg.connect(server.url)

        await server.stop()

        assert server.child.exit_status == 0
        connection.terminate()


async def test_a_lock_left_with_the_process_id_of_another_is_no_hindrance(tmp_path):
    """After a reboot the old server's process id may belong to anyone, here to this test."""
    server = embedded_postgres(tmp_path)
    async with _running(server):
        await server.kill()
        lock = tmp_path / "data" / "postmaster.pid"
        _, *rest = lock.read_text().splitlines()
        lock.write_text("\n".join([str(1), *rest]))

        await server.start()

        assert server.child.running


async def test_a_server_that_cannot_start_says_why(tmp_path):
    """The message holds the server's last words and its log's place."""
    server = embedded_postgres(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()

        with pytest.raises(SetupError) as caught:
            await server.start()

    assert "Postgres did not start" in str(caught.value)
    assert "Address already in use" in str(caught.value)
    assert "Whole log: " in str(caught.value)
