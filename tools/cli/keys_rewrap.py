"""`portico keys rewrap`: replace the master key, with direct access to the database."""

import asyncio
import getpass
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from pydantic import SecretStr
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from deploy.local.config import StackSettings
from services.keys.master_keys.rewrap import Order, Report, Rewrap
from services.keys.master_keys.source import Source
from services.keys.master_keys.store import MasterKeysStore, require_tables
from services.keys.vault import KEY_BYTES, MasterKey, Vault
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConflictError
from shared.events import Actor
from shared.faultpoint import point
from shared.postgres import open_pool
from tools.cli.output import print_json, print_table, remarks

EXIT_FOUND = 1
LINE_EVERY = 100
"""Data keys between two lines of progress where no terminal shows a bar."""


def rewrap(
    database_url: Annotated[
        str, typer.Option(envvar="DATABASE_URL", help="Postgres of the key service.")
    ] = "",
    schema: Annotated[
        str, typer.Option(envvar="KEYS_DB_SCHEMA", help="Schema of the key service.")
    ] = "keys",
    master_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="KEYS_MASTER_KEY_FILE",
            help="The file that the service reads; else KEYS_MASTER_KEY, else the local one.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(help="Seconds that running services may take to hold the key.", min=0)
    ] = 30.0,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit trail.")] = "",
    *,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="First make a master key, the first of the file.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="At the end take the other keys out of the file.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although a running service lacks the key.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Only tell what is under which key, and who holds it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Move all secrets under the first master key; may be stopped and run again at any time."""
    stack = load(StackSettings)
    source = _source(master_key_file, stack)
    url = database_url or stack.database
    if status:
        _print_status(asyncio.run(_status(url, schema, source)), as_json=as_json)
        return
    order = Order(_operator(), reason, wait, force)
    report = asyncio.run(_run(url, schema, source, order, new_key=new_key))
    dropped = _drop(source, report) if drop_old else ()
    _print(report, dropped, source, as_json=as_json)
    if report.damaged:
        raise typer.Exit(EXIT_FOUND)


def _source(file: Path | None, stack: StackSettings) -> Source:
    text = os.environ.get("KEYS_MASTER_KEY")  # noqa: TID251 - as an option it would be in `ps`
    if file is None and not text:
        return Source(None, stack.home / "secrets" / "master-key")
    return Source(SecretStr(text) if text else None, file)


def _operator() -> Actor:
    name = getpass.getuser()
    return Actor(subject=f"operator:{name}", name=name, kind="system")


async def _status(url: str, schema: str, source: Source) -> dict[str, Any]:
    """What the database needs, what is given, and what the running services hold."""
    await require_tables(url, schema)
    async with open_pool(url, schema=schema, application="portico-rewrap", size_max=2) as pool:
        store = MasterKeysStore(pool)
        uses, holders, check = await store.uses(), await store.holders(), await store.check()
    given = [key.fingerprint for key in source.read()]
    return {
        "master_keys": [
            {
                "master_key": name,
                "given": given.index(name) + 1 if name in given else None,
                "data_keys": uses.get(name, 0),
                "new_data_keys": check is not None and check.fingerprint == name,
                "lacking": [one.name for one in holders if name not in one.fingerprints],
            }
            for name in dict.fromkeys([*given, *uses])
        ],
        "holders": [one.name for one in holders],
    }


def _print_status(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    columns = (
        ("master_key", "master key"),
        ("given", "given as"),
        ("data_keys", "data keys"),
        ("new_data_keys", "new ones too"),
        ("lacking", "services without it"),
    )
    print_table(found["master_keys"], columns)
    print(f"{len(found['holders'])} running key services: {', '.join(found['holders']) or 'none'}")


async def _run(url: str, schema: str, source: Source, order: Order, *, new_key: bool) -> Report:
    await require_tables(url, schema)
    async with open_pool(url, schema=schema, application="portico-rewrap", size_max=2) as pool:
        store = MasterKeysStore(pool)
        if new_key:
            await _make_key(store, source)
        with _Progress() as progress:
            vault = Vault(source.read())
            return await Rewrap(store, vault, SystemClock(), progress.show).run(order)


async def _make_key(store: MasterKeysStore, source: Source) -> None:
    """A new first key, unless the one before has not been moved to yet."""
    first = source.read()[0].fingerprint
    if set(await store.uses()) - {first}:
        raise ConflictError(
            f"Not everything is under the first master key ({first}) yet: finish that rotation by "
            "running this without --new-key."
        )
    made = MasterKey(os.urandom(KEY_BYTES))
    source.prepend(made)
    point("keys.rewrap.key_written")
    remarks.print(f"new master key {made.fingerprint}, now the first in {source.file}")


def _drop(source: Source, report: Report) -> tuple[str, ...]:
    """Take all keys but the first out of the file, unless a data key could not be moved."""
    first, *others = source.read()
    if report.damaged or first.fingerprint != report.master_key or not others:
        return ()
    source.keep([first])
    return tuple(key.fingerprint for key in others)


def _print(report: Report, dropped: tuple[str, ...], source: Source, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report) | {"dropped": list(dropped)})
        return
    print(
        f"{report.moved} data keys rewrapped; {report.verified} verified under the master key "
        f"{report.master_key}"
    )
    if report.damaged:
        named = ", ".join(map(str, report.damaged))
        print(f"NOT moved, since their data key was changed by hand: networks {named}")
    for name in dropped:
        print(f"taken out of {source.file}: {name}; backups from before now still need it")
    others = [key.fingerprint for key in source.read() if key.fingerprint != report.master_key]
    if others and not report.damaged:
        how = "take it out where it is set" if source.file is None else "--drop-old takes it out"
        print(f"no secret needs {', '.join(others)} any more: {how}")


class _Progress:
    """A bar on a terminal, else a line now and then; both on standard error."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("rewrapping"), BarColumn(), MofNCompleteColumn(), console=remarks
        )
        self._task = self._bar.add_task("rewrapping", total=None)

    def __enter__(self) -> Self:
        if remarks.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if remarks.is_terminal:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """Tell that `done` of `total` are rewrapped."""
        self._bar.update(self._task, completed=done, total=total)
        if not remarks.is_terminal and done and (done % LINE_EVERY == 0 or done == total):
            remarks.print(f"rewrapped {done} of {total}")
