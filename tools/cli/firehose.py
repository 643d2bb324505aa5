"""`portico firehose tail`: a partner's stream on the screen, going on where a cut left it."""

import asyncio
import json
from typing import Annotated

import httpx
import typer

from shared.clock import SystemClock
from shared.errors import RejectedError, SetupError, TooManyError, UnavailableError
from tools import sse
from tools.cli import door
from tools.cli.config import CliSettings, settings
from tools.cli.keyfile import read_key
from tools.cli.output import remarks

app = typer.Typer(help="A partner's streams.", no_args_is_help=True)

RECONNECT_SECONDS = 1.0
FINAL_REASONS = frozenset(
    ("revoked", "expired", "not_yet_valid", "allowlist", "suspended", "firehose_off")
)
"""Ends after which the same key would be refused."""


@app.command()
def tail(
    types: Annotated[str, typer.Option(help="Comma-separated.")] = "clicks,conversions,impressions",
    since: Annotated[
        str, typer.Option(help="From this moment, such as 2026-01-31T12:00:00Z.")
    ] = "",
    cursor: Annotated[str, typer.Option(help="Go on after this cursor.")] = "",
    key: Annotated[
        str, typer.Option(envvar="PORTICO_KEY", help="The partner's key; else that of `run`.")
    ] = "",
) -> None:
    """Print events as they come, one JSON object a line, until Ctrl-C."""
    chosen = settings()
    asyncio.run(_Tail(chosen, key or _known_key(chosen), types, since, cursor).follow())


def _known_key(chosen: CliSettings) -> str:
    found = read_key(chosen.home)
    if found is None:
        raise SetupError("Give a partner's key by --key or PORTICO_KEY.")
    return found.key


class _Tail:
    """One tail: the stream, opened again at the last cursor whenever it is cut."""

    def __init__(self, chosen: CliSettings, key: str, types: str, since: str, cursor: str) -> None:
        self._url = f"{chosen.firehose}/v1/firehose/stream"
        self._base_url = chosen.firehose
        self._key = key
        self._params = {"types": types} | ({"since": since} if since else {})
        self._cursor = cursor
        self._clock = SystemClock()

    async def follow(self) -> None:
        """Print until the stream ends for good.

        Raises:
            RejectedError: refused, or ended for good; the message names the reason.
            TooManyError, UnavailableError: the first try found the house full, or nobody.
        """
        async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=60)) as client:
            while True:
                try:
                    await self._once(client)
                except (httpx.HTTPError, TooManyError, UnavailableError) as error:
                    if not self._cursor:
                        raise self._silence(error) from error
                remarks.print("cut off; going on at the last cursor", style="dim")
                await self._clock.sleep(RECONNECT_SECONDS)

    def _silence(self, error: Exception) -> Exception:
        if isinstance(error, httpx.HTTPError):
            return UnavailableError(door.unreachable(self._base_url, error))
        return error

    async def _once(self, client: httpx.AsyncClient) -> None:
        headers = {"X-Eflow-API-Key": self._key, "Accept": "text/event-stream"}
        params = self._params
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
            params = {"types": params["types"]}
        async with client.stream("GET", self._url, headers=headers, params=params) as answer:
            if answer.is_error:
                await answer.aread()
                raise door.refusal(answer)
            async for message in sse.messages(answer.aiter_lines()):
                self._take(message)

    def _take(self, message: sse.Message) -> None:
        self._cursor = message.id or self._cursor
        if message.event == "end":
            told = json.loads(message.data)
            if told["reason"] in FINAL_REASONS:
                raise RejectedError(f"The stream ended: {told['reason']}.")
        elif message.event not in ("heartbeat", "message"):
            print(
                f'{{"id":"{message.id}","type":"{message.event}","data":{message.data}}}',
                flush=True,
            )
