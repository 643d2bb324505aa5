"""`portico feed FILE`: a network's own clicks, impressions and conversions into the topics."""

import asyncio
import enum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from shared.clock import SystemClock
from shared.errors import SetupError, UnavailableError
from tools.cli.config import settings
from tools.cli.output import remarks
from tools.feed.lines import Bad, format_of
from tools.feed.load import Feed, FeedReport

REPORTED_LINES_MAX = 100
EXIT_REJECTED = 1


class Kinds(enum.StrEnum):
    """What a file's lines may be."""

    CLICKS = "clicks"
    IMPRESSIONS = "impressions"
    CONVERSIONS = "conversions"


class Formats(enum.StrEnum):
    """How a file may be written."""

    NDJSON = "ndjson"
    CSV = "csv"


def feed(
    file: Annotated[Path, typer.Argument(help="NDJSON, or CSV if its name ends in .csv.")],
    kind: Annotated[
        Kinds | None, typer.Option("--type", help="What every line is; else each line tells.")
    ] = None,
    written_as: Annotated[
        Formats | None, typer.Option("--format", help="Instead of what the name says.")
    ] = None,
) -> None:
    """Load events from a file; bad lines are reported and written to FILE.rejected.ndjson.

    NDJSON has one event a line. In CSV the header names the fields, nested ones with dots
    (relationship.offer.network_offer_id), and an empty cell leaves its field out. A field `type`
    (click, impression, conversion) may say what a line is. docs/asyncapi.yaml lists all fields.

    Exit status: 0 if every line was loaded, 1 if some were bad (the others are loaded), 2 if the
    file or Kafka could not be used. Running it twice counts nothing twice.
    """
    chosen = Feed(
        file,
        written_as.value if written_as else format_of(file),
        kind.value if kind else None,
    )
    report = _loaded(chosen)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.loaded.items()))
    print(f"loaded {counts or 'nothing'}; {report.rejected} lines rejected")
    if report.rejected:
        remarks.print(f"The bad lines are in {chosen.rejected_file}", markup=False)
        raise typer.Exit(EXIT_REJECTED)


def _loaded(chosen: Feed) -> FeedReport:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=remarks,
    )
    try:
        with bar:
            task = bar.add_task(chosen.file.name, total=chosen.file.stat().st_size)
            return asyncio.run(
                chosen.load(
                    settings().kafka_bootstrap,
                    SystemClock(),
                    progress=lambda done: bar.update(task, completed=done),
                    complain=_Complaints(),
                )
            )
    except UnavailableError as error:
        raise UnavailableError(
            f"Kafka does not answer ({error}). Some lines may be loaded: run it again, "
            "nothing counts twice."
        ) from error
    except OSError as error:
        raise SetupError(f"{error.filename}: {error.strerror}.") from error


class _Complaints:
    """Prints bad lines, up to a number; all of them are in the file."""

    def __init__(self) -> None:
        self._told = 0

    def __call__(self, line: Bad) -> None:
        self._told += 1
        if self._told <= REPORTED_LINES_MAX:
            remarks.print(f"line {line.number}: {line.reason}", markup=False)
        elif self._told == REPORTED_LINES_MAX + 1:
            remarks.print("further bad lines are only written to the file", markup=False)
