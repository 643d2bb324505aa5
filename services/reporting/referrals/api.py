"""The route of referrals: parse, handler, render.

The body is read as bytes and judged in `domain.py`, since deployed programs send more than a strict
model would let through.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.reporting.asking.schemas import answer
from services.reporting.freshness import fresh
from services.reporting.referrals import reference
from services.reporting.referrals.handlers import Referrals
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity


def router(referrals: Referrals, identity: IdentityCheck) -> APIRouter:
    """The route over `referrals`; a caller is who `identity` says."""
    routes = APIRouter(prefix="/v1/affiliates/reporting", tags=["reporting"])

    @routes.post(
        "/referrals",
        responses=answer(reference.REFERRALS, reference.EXAMPLE),
        openapi_extra=reference.BODY,
    )
    async def page(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """What you earned by referring other partners, in pages by time and id.

        Each amount is in the currency it was earned in, `currency_id` of the row. `totals` adds up
        all pages by currency and status.
        """
        found = await referrals.page(Scope.of(caller), await request.body(), request.query_params)
        return JsonResponse(found.body, headers=fresh(found.through))

    return routes
