"""The routes of the facts: each is parse, handler, render.

Bodies are read as bytes and judged in `domain.py`, since deployed programs send more than a strict
model would let through.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from services.reporting.freshness import HEADER, fresh
from services.reporting.reports import reference
from services.reporting.reports.handlers import Reports
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity

_FRESH: Final = {HEADER: {"description": "Complete up to here.", "schema": {"type": "string"}}}


def router(reports: Reports, identity: IdentityCheck) -> APIRouter:
    """The three routes over facts."""
    routes = APIRouter(prefix="/v1/affiliates/reporting", tags=["reporting"])

    def scope(caller: Annotated[Identity, Depends(identity)]) -> Scope:
        return Scope.of(caller)

    @routes.post(
        "/entity/table",
        responses=reference.answer(reference.TABLE, _FRESH),
        openapi_extra=reference.TABLE_BODY,
    )
    async def table(request: Request, scope: Annotated[Scope, Depends(scope)]) -> Response:
        """A report of any columns: one row a combination, with all metrics."""
        answer = await reports.table(scope, await request.body())
        return JsonResponse(answer.body, headers=fresh(answer.through))

    @routes.post(
        "/conversions",
        responses=reference.answer(reference.CONVERSIONS, _FRESH),
        openapi_extra=reference.CONVERSIONS_BODY,
    )
    async def conversions(request: Request, scope: Annotated[Scope, Depends(scope)]) -> Response:
        """Approved conversions and events, in pages by time and id."""
        answer = await reports.conversions(scope, await request.body(), request.query_params)
        return JsonResponse(answer.body, headers=fresh(answer.through))

    @routes.get("/clicks/{transaction_id}", responses=reference.answer(reference.CLICK, _FRESH))
    async def click(transaction_id: str, scope: Annotated[Scope, Depends(scope)]) -> Response:
        """One click."""
        answer = await reports.click(scope, transaction_id)
        return JsonResponse(answer.body, headers=fresh(answer.through))

    return routes
