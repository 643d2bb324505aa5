"""The routes of raw rows: each is parse, handler, render.

Bodies are read as bytes and judged in `domain.py`, since deployed programs send more than a strict
model would let through.
"""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from services.reporting.asking.answers import Answer
from services.reporting.asking.schemas import CLICK_ROW, CONVERSION_ROW, answer
from services.reporting.freshness import fresh
from services.reporting.rows import reference
from services.reporting.rows.handlers import Flow, Found, Rows
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse

ScopeOf = Callable[[Request], Scope]


def router(rows: Rows, identity: IdentityCheck) -> APIRouter:
    """The routes over raw rows."""
    routes = APIRouter(prefix="/v1/affiliates/reporting", tags=["reporting"])

    def scope_of(request: Request) -> Scope:
        return Scope.of(identity(request))

    _add_conversions(routes, rows, scope_of)
    _add_held(routes, rows, scope_of)
    _add_clicks(routes, rows, scope_of)
    return routes


def _add_conversions(routes: APIRouter, rows: Rows, scope_of: ScopeOf) -> None:
    @routes.post(
        "/conversions",
        responses=answer(reference.CONVERSIONS),
        openapi_extra=reference.CONVERSIONS_BODY,
    )
    async def conversions(request: Request) -> Response:
        """Approved conversions and events, in pages by time and id."""
        return _json(
            await rows.conversions(scope_of(request), await request.body(), request.query_params)
        )

    @routes.post(
        "/conversions/export",
        responses=reference.EXPORT,
        openapi_extra=reference.EXPORT_BODY,
    )
    async def export(request: Request) -> Response:
        """All of them as one CSV (or JSON), by day and id."""
        return _flowing(await rows.export(scope_of(request), await request.body()))

    @routes.get("/conversions/{conversion_id}", responses=answer(CONVERSION_ROW))
    async def conversion(request: Request, conversion_id: str) -> Response:
        """One conversion that stands approved."""
        return _bare(await rows.conversion(scope_of(request), conversion_id))

    @routes.post(
        "/postconversions",
        responses=answer(reference.CONVERSIONS),
        openapi_extra=reference.EVENTS_BODY,
    )
    async def events(request: Request) -> Response:
        """Events alone."""
        return _json(
            await rows.events(scope_of(request), await request.body(), request.query_params)
        )


def _add_held(routes: APIRouter, rows: Rows, scope_of: ScopeOf) -> None:
    @routes.post("/onhold", responses=answer(reference.HELD), openapi_extra=reference.HELD_BODY)
    async def held(request: Request) -> Response:
        """Conversions that are or were on hold, with how it ended."""
        return _json(await rows.held(scope_of(request), await request.body(), request.query_params))

    @routes.get("/onhold/{hold_id}", responses=answer(reference.HELD_ROW))
    async def held_one(request: Request, hold_id: str) -> Response:
        """One time on hold."""
        return _bare(await rows.held_one(scope_of(request), hold_id))


def _add_clicks(routes: APIRouter, rows: Rows, scope_of: ScopeOf) -> None:
    @routes.post(
        "/clicks/stream",
        responses=reference.CLICKS,
        openapi_extra=reference.CLICKS_BODY,
    )
    async def stream(request: Request) -> Response:
        """The newest 5,000 clicks of at most 14 days, newest first."""
        return _flowing(await rows.clicks(scope_of(request), await request.body()))

    @routes.post("/clicks", responses=reference.CLICKS, openapi_extra=reference.CLICKS_BODY)
    async def clicks(request: Request) -> Response:
        """The same under its older name."""
        return _flowing(await rows.clicks(scope_of(request), await request.body()))

    @routes.get("/clicks/{transaction_id}", responses=answer(CLICK_ROW))
    async def click(request: Request, transaction_id: str) -> Response:
        """One click."""
        return _bare(await rows.click(scope_of(request), transaction_id))


def _json(found: Answer) -> Response:
    return JsonResponse(found.body, headers=fresh(found.through))


def _bare(found: Found) -> Response:
    return Response(found.row, media_type="application/json", headers=fresh(found.through))


def _flowing(flow: Flow) -> Response:
    return StreamingResponse(flow.parts, headers=flow.headers | fresh(flow.through))
