"""Protects the schema: migrations apply once, in order, whole, whoever starts first."""

import asyncio
import sys

import pytest

from shared.errors import ConflictError, SetupError, UnavailableError
from shared.postgres import migrate, open_pool, translated


@pytest.fixture
def package(tmp_path, monkeypatch, unique):
    """A package whose migrations a test writes."""
    name = unique("migrations").replace("-", "_").replace(".", "_")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield name, folder
    sys.modules.pop(name, None)


async def test_migrations_apply_once_and_in_order(database_url, schema, package):
    """A second start finds nothing to do; a new file is applied alone."""
    name, folder = package
    (folder / "0001_table.sql").write_text("CREATE TABLE t (a int);")
    (folder / "0002_column.sql").write_text("ALTER TABLE t ADD COLUMN b int;")
    async with open_pool(database_url, schema=schema, application="t") as pool:
        assert await migrate(pool, name) == ("0001_table.sql", "0002_column.sql")
        assert await migrate(pool, name) == ()
        (folder / "0003_row.sql").write_text("INSERT INTO t VALUES (1, 2);")
        assert await migrate(pool, name) == ("0003_row.sql",)
        assert await pool.fetchval("SELECT b FROM t") == 2


async def test_several_processes_may_start_at_once(database_url, schema, package):
    """One migrates, the others wait and find it done."""
    name, folder = package
    (folder / "0001_table.sql").write_text("CREATE TABLE t (a int); SELECT pg_sleep(0.2);")
    async with open_pool(database_url, schema=schema, application="t") as pool:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(migrate(pool, name)) for _ in range(4)]
        assert sorted(task.result() for task in tasks) == [(), (), (), ("0001_table.sql",)]


async def test_a_failing_migration_leaves_nothing(database_url, schema, package):
    """Neither half a change nor a record of it."""
    name, folder = package
    (folder / "0001_bad.sql").write_text("CREATE TABLE t (a int); SELECT 1/0;")
    async with open_pool(database_url, schema=schema, application="t") as pool:
        with pytest.raises(Exception, match="division by zero"):
            await migrate(pool, name)
        assert await pool.fetchval("SELECT to_regclass('t')") is None
        (folder / "0001_bad.sql").write_text("CREATE TABLE t (a int);")
        assert await migrate(pool, name) == ("0001_bad.sql",)


async def test_older_code_refuses_a_newer_schema(database_url, schema, package):
    """Code that does not know the schema must not write into it."""
    name, folder = package
    (folder / "0001_a.sql").write_text("SELECT 1;")
    (folder / "0002_b.sql").write_text("SELECT 1;")
    async with open_pool(database_url, schema=schema, application="t") as pool:
        await migrate(pool, name)
        (folder / "0002_b.sql").unlink()
        with pytest.raises(SetupError, match="newer release"):
            await migrate(pool, name)


async def test_schemas_do_not_see_one_another(database_url, schema, package):
    """Services share no table."""
    name, folder = package
    (folder / "0001_table.sql").write_text("CREATE TABLE mine (a int);")
    async with open_pool(database_url, schema=schema, application="t") as pool:
        await migrate(pool, name)
        assert await pool.fetchval("SELECT to_regclass('mine')") == "mine"
    async with open_pool(database_url, schema=f"{schema}_b", application="t") as other:
        assert await other.fetchval("SELECT to_regclass('mine')") is None
        await other.execute(f"DROP SCHEMA {schema}_b CASCADE")


async def test_a_duplicate_is_a_conflict_and_a_broken_connection_may_recover(database_url, schema):
    """Fates are decided by class."""
    async with open_pool(database_url, schema=schema, application="t") as pool:
        await pool.execute("CREATE TABLE t (a int PRIMARY KEY)")
        await pool.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(ConflictError, match="already exists"), translated("inserting"):
            await pool.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(UnavailableError), translated("asking"):
            await pool.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_postgres_that_is_not_there_is_named(unused_tcp_port):
    """The message says which setting to look at."""
    url = f"postgresql://postgres@127.0.0.1:{unused_tcp_port}/postgres"
    with pytest.raises(SetupError, match="DATABASE_URL"):
        async with open_pool(url, schema="x", application="t"):
            pass
