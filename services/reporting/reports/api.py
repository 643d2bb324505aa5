"""The routes of reports: each is parse, handler, render.

Bodies are read as bytes and judged in `domain.py`, since deployed programs send more than a strict
model would let through.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.reporting.asking.schemas import answer
from services.reporting.freshness import fresh
from services.reporting.reports import reference
from services.reporting.reports.handlers import Reports
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity


def router(reports: Reports, identity: IdentityCheck) -> APIRouter:
    """The routes over reports."""
    routes = APIRouter(prefix="/v1/affiliates/reporting", tags=["reporting"])

    def scope(caller: Annotated[Identity, Depends(identity)]) -> Scope:
        return Scope.of(caller)

    @routes.post(
        "/entity/table",
        responses=answer(reference.TABLE),
        openapi_extra=reference.TABLE_BODY,
    )
    async def table(request: Request, scope: Annotated[Scope, Depends(scope)]) -> Response:
        """A report of any columns: one row a combination, with all metrics."""
        found = await reports.table(scope, await request.body())
        return JsonResponse(found.body, headers=fresh(found.through))

    return routes
