"""The route of the change feed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.reporting.changes import reference
from services.reporting.changes.handlers import Changes
from services.reporting.freshness import fresh
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity


def router(changes: Changes, identity: IdentityCheck) -> APIRouter:
    """The route of `changes`; a caller is who `identity` says."""
    routes = APIRouter(prefix="/v1/affiliates/reporting", tags=["reporting"])

    @routes.get("/changes", responses=reference.ANSWERS, openapi_extra=reference.PARAMETERS)
    async def poll(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """Every change of your conversions once, in the order in which they happened.

        Begin without a cursor and go on with `paging.next_cursor`, at once while `has_more`, else
        when you like: a copy that puts each row but the `superseded` over the one it has of that
        `conversion_id` equals the ledger, as of `X-Data-Through`.
        """
        answer = await changes.poll(Scope.of(caller), request.query_params)
        return JsonResponse(answer.body, headers=fresh(answer.through))

    return routes
