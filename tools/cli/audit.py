"""`portico audit`: prove the trail, and watch it grow."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from shared.clock import SystemClock
from shared.errors import UnavailableError
from tools import sse
from tools.cli import door, issuer
from tools.cli.config import settings
from tools.cli.output import print_json, remarks

app = typer.Typer(help="The audit trail of a network.", no_args_is_help=True)

Network = Annotated[int, typer.Option(help="Whose trail.", min=0)]
EXIT_FOUND = 1
RECONNECT_SECONDS = 1.0


@app.command()
def verify(
    network: Network,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report.")] = False,
) -> None:
    """Check the chain against its signed checkpoints; exit status 1 if something is wrong.

    The service does it. To check without trusting the service, see `audit verify-direct`.
    """
    report = door.as_staff(settings(), network).call("GET", "/v1/audit/verify")
    if as_json:
        print_json(report)
    else:
        print(_told(report))
    if not report["ok"]:
        raise typer.Exit(EXIT_FOUND)


@app.command()
def verify_direct(
    database_url: Annotated[
        str, typer.Option(envvar="DATABASE_URL", help="Postgres of the trail.")
    ],
    checkpoints: Annotated[
        Path, typer.Option(envvar="AUDIT_CHECKPOINT_DIR", help="Folder of signed checkpoints.")
    ],
    signing_key: Annotated[
        Path,
        typer.Option(envvar="AUDIT_SIGNING_KEY_FILE", help="PEM of the signing key, or its half."),
    ],
    schema: Annotated[str, typer.Option(help="Schema of the trail.")] = "audit",
) -> None:
    """Check every network's chain with no service involved; exit status 1 if one is wrong."""
    from services.audit.checkpoints import load_public_key  # noqa: PLC0415 - only here, and slow
    from services.audit.verify import verify_trail  # noqa: PLC0415 - as above

    report = asyncio.run(
        verify_trail(database_url, schema, checkpoints, load_public_key(signing_key))
    )
    for network in report.networks:
        problem = network.problem
        told = {"kind": problem.kind, "detail": problem.detail} if problem else None
        print(
            _told(
                {
                    "ok": network.ok,
                    "network_id": network.network_id,
                    "entries": network.entries,
                    "covered_sequence": network.covered_sequence,
                    "problem": told,
                }
            )
        )
    if not report.ok:
        raise typer.Exit(EXIT_FOUND)


@app.command()
def tail(
    network: Network,
    since: Annotated[int | None, typer.Option(help="Go on after this entry.", min=0)] = None,
) -> None:
    """Print new entries as they come, one JSON object a line, until Ctrl-C."""
    asyncio.run(_tail(network, since))


def _told(report: dict[str, Any]) -> str:
    about = f"network {report['network_id']}: {report['entries']} entries"
    covered = f"proved up to entry {report['covered_sequence']}"
    if report["ok"]:
        return f"{about}, intact; {covered}"
    problem = report["problem"]
    return f"{about}, NOT intact ({problem['kind']}): {problem['detail']}; {covered}"


async def _tail(network: int, since: int | None) -> None:
    """Follow the live feed; a cut, or its planned end, is followed by going on where it was."""
    chosen, clock = settings(), SystemClock()
    last_id = "" if since is None else str(since)
    async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=60)) as client:
        while True:
            token = chosen.token.get_secret_value() or issuer.sign(
                chosen.home, issuer.administrator(network)
            )
            headers = {"Authorization": f"Bearer {token}"}
            if last_id:
                headers["Last-Event-ID"] = last_id
            try:
                async with client.stream(
                    "GET", f"{chosen.gateway}/v1/audit/stream", headers=headers
                ) as answer:
                    await _refuse_errors(answer)
                    async for message in sse.messages(answer.aiter_lines()):
                        if message.event == "entry":
                            print(message.data, flush=True)
                            last_id = message.id
            except httpx.HTTPError as error:
                if not last_id:
                    raise UnavailableError(door.unreachable(chosen.gateway, error)) from error
                remarks.print("cut off; going on", style="dim")
            await clock.sleep(RECONNECT_SECONDS)


async def _refuse_errors(answer: httpx.Response) -> None:
    if answer.is_error:
        await answer.aread()
        raise door.refusal(answer)
