"""The catalog's routes.

Query parameters that no route knows are tolerated, since deployed programs send them
(`relationship=all`, `filter=…`); each offer has all its related things in any case.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Response

from services.reporting.catalog import wire
from services.reporting.catalog.handlers import Answer, Catalog
from services.reporting.freshness import fresh
from services.reporting.paging import Page
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity

_FRESH: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "X-Data-Through": {
                "description": "The answer holds everything that was logged until this moment.",
                "schema": {"type": "string", "format": "date-time"},
            }
        }
    }
}

PageNumber = Annotated[int | None, Query(description="1-based; 1 if absent or less.")]
PageSize = Annotated[
    int | None,
    Query(description="50 if absent or 0; 2,000 if negative or more. The answer echoes it."),
]


def router(catalog: Catalog, identity: IdentityCheck) -> APIRouter:
    """The routes of `catalog`; a caller is who `identity` says."""
    routes = APIRouter(tags=["catalog"])
    _add_offers(routes, catalog, identity)
    _add_network(routes, catalog, identity)
    _add_timezones(routes, catalog, identity)
    return routes


def _add_offers(routes: APIRouter, catalog: Catalog, identity: IdentityCheck) -> None:
    @routes.get("/v1/affiliates/offersrunnable", response_model=wire.OffersPage, responses=_FRESH)
    async def offers_runnable(
        caller: Annotated[Identity, Depends(identity)],
        page: PageNumber = None,
        page_size: PageSize = None,
    ) -> Response:
        """Offers that you may run now, by ascending `network_offer_id`."""
        return _rendered(await catalog.runnable(Scope.of(caller), Page.asked(page, page_size)))


def _add_network(routes: APIRouter, catalog: Catalog, identity: IdentityCheck) -> None:
    @routes.get("/v1/affiliates/network", response_model=wire.Network, responses=_FRESH)
    async def network(caller: Annotated[Identity, Depends(identity)]) -> Response:
        """The network that you work with."""
        return _rendered(await catalog.network(Scope.of(caller)))


def _add_timezones(routes: APIRouter, catalog: Catalog, identity: IdentityCheck) -> None:
    @routes.get(
        "/v1/meta/timezones",
        response_model=wire.Timezones,
        responses=_FRESH,
        dependencies=[Depends(identity)],
    )
    async def timezones() -> Response:
        """Every time zone that a request may name, with its offset now."""
        return _rendered(catalog.timezones())


def _rendered(answer: Answer) -> Response:
    return JsonResponse(answer.body, headers=fresh(answer.through))
