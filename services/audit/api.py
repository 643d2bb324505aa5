"""The routes of audit: search, live feed, verification, anomalies.

A request comes through the gateway with its signed identity, and with the caller's own token.
Entries are answered as the very JSON that is hashed, with its `hash` added as the last member, so
that a reader can check the chain: remove that member, and the SHA-256 of the rest is its value.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.audit import chain
from services.audit.feed import Page
from services.audit.handlers import Handlers
from services.audit.store import Search
from services.audit.verify import NetworkReport
from shared.errors import InvalidError, UnavailableError
from shared.http import IdentityCheck, JsonResponse, new_app
from shared.tokens import Caller, TokenVerifier

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000
SEQUENCE_MAX: Final = 2**63 - 1

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]
Partner = Annotated[int | None, Query(ge=0, le=SEQUENCE_MAX)]
Authenticate = Callable[[Request], Awaitable[Caller]]


def build_api(handlers: Handlers, identity: IdentityCheck, tokens: TokenVerifier) -> FastAPI:
    """The application; it serves exactly the rows of `shared.routes` that name this service."""
    app = new_app("Audit", "The audit trail of a network, its proof, and what looks unusual.")

    async def caller(request: Request) -> Caller:
        identity(request)
        return await tokens.verify(request.headers.get("authorization"))

    _add_entries(app, handlers, caller)
    _add_stream(app, handlers, caller)
    _add_verify(app, handlers, caller)
    _add_anomalies(app, handlers, caller)
    return app


def _add_entries(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.get("/v1/audit/entries")
    async def entries(
        caller: Annotated[Caller, Depends(authenticate)],
        search: Annotated[Search, Depends(_search)],
        limit: Limit = LIMIT_DEFAULT,
    ) -> Response:
        """Entries, newest first; `paging.next_cursor` leads to older ones, null at the end."""
        found = await handlers.search(caller, search, limit + 1)
        page = found[:limit]
        is_more = len(found) > limit
        next_cursor = str(_sequence(page[-1])) if is_more else None
        return JsonResponse(
            {
                "entries": [msgspec.Raw(rendered(entry).encode()) for entry in page],
                "paging": {"limit": limit, "next_cursor": next_cursor},
            }
        )


def _search(
    request: Request,
    kind: str | None = None,
    key_id: str | None = None,
    partner: Partner = None,
    cursor: Annotated[int | None, Query(ge=0, le=SEQUENCE_MAX)] = None,
) -> Search:
    """The filters of a search; `from` and `to` are no names that Python allows."""
    return Search(
        before=cursor,
        kind=kind,
        network_affiliate_id=partner,
        key_id=key_id,
        since=moment("from", request.query_params.get("from")),
        until=moment("to", request.query_params.get("to")),
    )


def _add_stream(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.get("/v1/audit/stream")
    async def stream(
        caller: Annotated[Caller, Depends(authenticate)],
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """New entries as server-sent events; an event's id is its sequence."""
        start, pages = await handlers.stream(caller, resume_point(last_event_id))
        return StreamingResponse(
            _server_sent(start, pages),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )


def _add_verify(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.get("/v1/audit/verify")
    async def verify(caller: Annotated[Caller, Depends(authenticate)]) -> Response:
        """Whether the chain is intact, up to which entry that is proved, and the first problem."""
        return JsonResponse(_report(await handlers.verify(caller)))


def _add_anomalies(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.get("/v1/audit/anomalies")
    async def anomalies(
        caller: Annotated[Caller, Depends(authenticate)],
        partner: Partner = None,
        status: Annotated[str, Query(pattern="^(any|open)$")] = "any",
        cursor: str | None = None,
        limit: Limit = LIMIT_DEFAULT,
    ) -> Response:
        """Incidents, newest first; `paging.next_cursor` leads to older ones, null at the end."""
        found = await handlers.anomalies(
            caller,
            network_affiliate_id=partner,
            is_open=status == "open",
            before=_place(cursor),
            limit=limit + 1,
        )
        page = [_anomaly(row) for row in found[:limit]]
        last = found[limit - 1] if len(found) > limit else None
        next_cursor = f"{last['window_start']}.{last['anomaly_id']}" if last else None
        return JsonResponse(
            {"anomalies": page, "paging": {"limit": limit, "next_cursor": next_cursor}}
        )


def moment(name: str, text: str | None) -> float | None:
    """A query's moment in seconds UTC: a number of seconds, or ISO 8601 (UTC where no zone).

    Raises:
        InvalidError: it is neither.
    """
    if text is None:
        return None
    try:
        return float(text) if _is_number(text) else _iso(text)
    except (ValueError, OverflowError) as error:
        raise InvalidError(
            f"{name}: {text!r} is no moment; use 2026-01-31T12:00:00Z or seconds since 1970."
        ) from error


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit()


def _iso(text: str) -> float:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def resume_point(text: str | None) -> int | None:
    """The sequence in `Last-Event-ID`; None if there is none.

    Raises:
        InvalidError: it is not an id of this feed.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > SEQUENCE_MAX:
        raise InvalidError(f"Last-Event-ID: {text!r} is not an id of this feed.")
    return int(text)


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    window_start, _, identifier = cursor.partition(".")
    place = resume_point(window_start) if identifier else None
    if place is None:
        raise InvalidError(f"cursor: {cursor!r} is not one of this list.")
    return place, identifier


def rendered(entry: chain.StoredEntry) -> str:
    """An entry as the API shows it: the hashed JSON with `hash` as its last member."""
    return f'{entry.content[:-1]},"hash":"{entry.hash}"}}'


def _sequence(entry: chain.StoredEntry) -> int:
    return int(msgspec.json.decode(entry.content)["sequence"])


async def _server_sent(start: int, pages: AsyncGenerator[Page, None]) -> AsyncIterator[bytes]:
    """Pages as server-sent events; the first says where they begin, the last why they end."""
    yield f'id: {start}\nevent: start\ndata: {{"sequence":{start}}}\n\n'.encode()
    reason = "reconnect"
    async with aclosing(pages) as open_pages:
        try:
            async for page in open_pages:
                yield _events(page) if page else b": heartbeat\n\n"
        except UnavailableError:
            reason = "unavailable"
    yield f'event: end\ndata: {{"reason":"{reason}"}}\n\n'.encode()


def _events(page: Page) -> bytes:
    return "".join(
        f"id: {sequence}\nevent: entry\ndata: {rendered(entry)}\n\n" for sequence, entry in page
    ).encode()


def _report(report: NetworkReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "network_id": report.network_id,
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "covered_sequence": report.covered_sequence,
        "covered_at": report.covered_at,
        "problem": report.problem,
    }


def _anomaly(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "detail": msgspec.Raw(row["detail"].encode())}
