"""The table of keys: listed, one looked at closely, taken away as a file."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from shared.errors import SetupError
from tools.cli import keys_view
from tools.cli.keys_words import (
    AsJson,
    KeyId,
    Network,
    OfIntegration,
    OfPartner,
    OfStatus,
    Search,
    Sort,
    WithWarning,
    given,
    of_key,
    of_partner,
    staff,
)
from tools.cli.output import console, print_facts, print_json, print_table, remarks


def list_keys(
    network: Network,
    *,
    partner: OfPartner = None,
    status: OfStatus = "",
    integration: OfIntegration = "",
    warning: WithWarning = "",
    search: Search = "",
    sort: Sort = "",
    limit: Annotated[int | None, typer.Option(help="Rows a page.", min=1)] = None,
    cursor: Annotated[str, typer.Option(help="Go on where the page before ended.")] = "",
    as_json: AsJson = False,
) -> None:
    """List keys, of one partner or of the whole network."""
    params = given(
        status=status,
        integration=integration,
        warning=warning,
        search=search,
        sort=sort,
        limit=limit,
        cursor=cursor,
    )
    path = f"{of_partner(partner)}/apikeys" if partner else "/v1/networks/apikeys"
    answer = staff(network).call("GET", path, params=params)
    if as_json:
        print_json(answer)
        return
    print_table(map(keys_view.key_line, answer["apikeys"]), keys_view.KEY_COLUMNS)
    if answer["paging"]["next_cursor"]:
        remarks.print(f"There are more: --cursor {answer['paging']['next_cursor']}")


def show(key_id: KeyId, network: Network, *, as_json: AsJson = False) -> None:
    """Show a key, and who uses it."""
    row = staff(network).call("GET", of_key(key_id))
    if as_json:
        print_json(row)
        return
    print_facts(keys_view.key_facts(row), console)
    sources = row["usage"]["sources"]
    if sources:
        print_table(map(keys_view.source_line, sources), keys_view.SOURCE_COLUMNS)


def export(
    network: Network,
    output: Annotated[
        Path | None, typer.Option(help="File to write; else standard output.", dir_okay=False)
    ] = None,
    *,
    form: Annotated[Literal["csv", "json"], typer.Option("--format")] = "csv",
    partner: OfPartner = None,
    status: OfStatus = "",
    integration: OfIntegration = "",
    warning: WithWarning = "",
    search: Search = "",
    sort: Sort = "",
) -> None:
    """Write the table, all pages of it; the file appears whole or not at all."""
    params = given(
        format=form,
        partner=partner,
        status=status,
        integration=integration,
        warning=warning,
        search=search,
        sort=sort,
    )
    with (
        _sink(output) as out,
        staff(network).download("/v1/networks/apikeys/export", params) as pieces,
    ):
        written = _copied(pieces, out)
    if output is not None:
        remarks.print(f"{output}: {written} bytes")


def _copied(pieces: Iterable[bytes], out: BinaryIO) -> int:
    return sum(out.write(piece) for piece in pieces)


@contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that takes its name once all is in it."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        arriving, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise SetupError(f"{output} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(arriving, "wb") as out:
            yield out
        Path(name).replace(output)
    finally:
        Path(name).unlink(missing_ok=True)
