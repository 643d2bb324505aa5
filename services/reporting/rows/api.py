"""The routes of raw rows: each is parse, handler, render.

Bodies are read as bytes and judged in `domain.py`, since deployed programs send more than a strict
model would let through.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.reporting.asking.schemas import CLICK_ROW, answer
from services.reporting.freshness import fresh
from services.reporting.rows import reference
from services.reporting.rows.handlers import Rows
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity


def router(rows: Rows, identity: IdentityCheck) -> APIRouter:
    """The routes over raw rows."""
    routes = APIRouter(prefix="/v1/affiliates/reporting", tags=["reporting"])

    def scope(caller: Annotated[Identity, Depends(identity)]) -> Scope:
        return Scope.of(caller)

    @routes.post(
        "/conversions",
        responses=answer(reference.CONVERSIONS),
        openapi_extra=reference.CONVERSIONS_BODY,
    )
    async def conversions(request: Request, scope: Annotated[Scope, Depends(scope)]) -> Response:
        """Approved conversions and events, in pages by time and id."""
        found = await rows.conversions(scope, await request.body(), request.query_params)
        return JsonResponse(found.body, headers=fresh(found.through))

    @routes.get("/clicks/{transaction_id}", responses=answer(CLICK_ROW))
    async def click(transaction_id: str, scope: Annotated[Scope, Depends(scope)]) -> Response:
        """One click."""
        found = await rows.click(scope, transaction_id)
        return JsonResponse(found.body, headers=fresh(found.through))

    return routes
