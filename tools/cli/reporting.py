"""`portico reporting`: how the facts are, make them anew from the log, prove that they equal it.

The commands ask the running service on this machine, at `PORTICO_REPORTING`.
"""

import time
from typing import Annotated, Any, Final

import typer

from shared.errors import PorticoError, UnavailableError
from tools.cli.config import settings
from tools.cli.door import Door
from tools.cli.output import print_facts, print_json, print_table, remarks

app = typer.Typer(help="The facts that reports are made of.", no_args_is_help=True)

PATH: Final = "/operations/facts"
POLL_SECONDS: Final = 0.5
EXIT_FOUND: Final = 1

Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


@app.command()
def status(*, as_json: Json = False) -> None:
    """Show how fresh and how large the facts are, and what runs."""
    found = _door().call("GET", PATH)
    if as_json:
        print_json(found)
        return
    lag = found["lag"]
    print_facts(
        [
            ("complete up to", found["through"]),
            ("behind", f"{lag['records']} records, {lag['seconds']:.1f} s"),
            ("generation", found["database"]),
        ]
    )
    rows = [{"table": name, **state} for name, state in sorted(found["tables"].items())]
    names = ("table", "rows", "parts", "merges", "disk_bytes")
    print_table(rows, [(name, name.replace("_", " ")) for name in names])
    for operation in found["operations"].values():
        print(_told(operation))


@app.command()
def rebuild() -> None:
    """Make all facts anew from the log, beside live reads, and switch to them when they are whole.

    What the log no longer holds is copied. Interrupting this command does not stop the rebuild;
    stopping the service does, and leaves the facts as they were.
    """
    _done("rebuild")
    print("Partners read the facts made anew.")


@app.command()
def recount(*, as_json: Json = False) -> None:
    """Compare the facts with an independent count of the log; exit status 1 if they differ."""
    result = _done("recount")["result"]
    if as_json:
        print_json(result)
    else:
        _print_recount(result)
    if not result["equal"]:
        raise typer.Exit(EXIT_FOUND)


def _door() -> Door:
    return Door(settings().reporting, {})


def _done(name: str) -> dict[str, Any]:
    """Have the service do it, telling how far it is; the operation once it has ended.

    Raises:
        PorticoError: it failed.
        UnavailableError: the service does not answer.
    """
    door = _door()
    operation: dict[str, Any] = door.call("POST", f"{PATH}/{name}")
    began, told = operation["began_at"], ""
    while operation["state"] == "running":
        if (now := _told(operation)) != told:
            told = now
            remarks.print(told, style="dim")
        time.sleep(POLL_SECONDS)
        operation = door.call("GET", PATH)["operations"].get(name, {})
        if operation.get("began_at") != began:
            raise UnavailableError(f"The service was restarted; the {name} is lost. Begin again.")
    if operation["state"] == "failed":
        raise PorticoError(f"The {name} failed, nothing has changed: {operation['error']}")
    return operation


def _told(operation: dict[str, Any]) -> str:
    text = f"{operation['name']} {operation['state']}"
    if operation["doing"]:
        text += f": {operation['doing']}"
    if operation["total"]:
        part = min(1.0, operation["done"] / operation["total"])
        text += f", {operation['done']} of {operation['total']} records ({part:.0%})"
    return f"{text} {operation['error']}".rstrip()


def _print_recount(result: dict[str, Any]) -> None:
    wrong = [row for row in result["partitions"] if not row["equal"]]
    facts = sum(row["facts"]["facts"] for row in result["partitions"])
    if not wrong:
        print(f"{facts} facts equal the log's, in {len(result['partitions'])} partitions.")
        return
    rows = [
        {
            "where": f"{row['table']}, partition {row['partition']}",
            "stored": row["facts"]["facts"],
            "in the log": row["log"]["facts"],
            "revenue": (row["facts"]["revenue"] - row["log"]["revenue"]) / 1_000_000,
        }
        for row in wrong
    ]
    print_table(
        rows,
        [
            ("where", "where"),
            ("stored", "stored"),
            ("in the log", "in the log"),
            ("revenue", "revenue too much"),
        ],
    )
    print(f"{len(wrong)} partitions differ from the log. `portico reporting rebuild` mends them.")
