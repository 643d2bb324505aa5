"""The catalog's routes: offers as the caller may see and run them, their links, who the caller is.

Query parameters that no route knows are tolerated, since deployed programs send them; each offer
has all its related things in any case.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response

from services.reporting.asking.answers import Answer
from services.reporting.catalog import reference, search, wire
from services.reporting.catalog.handlers import REPORTING, Catalog
from services.reporting.freshness import FRESH, fresh
from services.reporting.scope import Scope
from shared.errors import NotFoundError
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity

RELATED: Final = ("account_manager", "encoded_value", REPORTING)
"""What `relationship=all` of the affiliate means."""
OfferId = Annotated[str, Path(description="A `network_offer_id`.", examples=["70"])]
UrlId = Annotated[
    str, Path(description="A `network_offer_url_id`, 0 for the offer's own page.", examples=["4"])
]
_ID_LENGTH_MAX: Final = len(str(2**53))


def router(catalog: Catalog, identity: IdentityCheck) -> APIRouter:
    """The routes of `catalog`; a caller is who `identity` says."""
    routes = APIRouter(prefix="/v1/affiliates", tags=["catalog"])
    _add_lists(routes, catalog, identity)
    _add_offer(routes, catalog, identity)
    _add_links(routes, catalog, identity)
    _add_account(routes, catalog, identity)
    return routes


def _add_lists(routes: APIRouter, catalog: Catalog, identity: IdentityCheck) -> None:
    described: dict[str, Any] = {
        "response_model": wire.OffersPage,
        "responses": FRESH,
        "openapi_extra": reference.OFFERS,
    }

    @routes.get("/offersrunnable", **described)
    async def offers_runnable(
        request: Request, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """Offers that you may run now, by ascending `network_offer_id`."""
        asked = search.read(request.query_params.multi_items())
        return _rendered(await catalog.offers(Scope.of(caller), asked, "runnable"))

    @routes.get("/offers", **described)
    async def offers(request: Request, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """The older name of `/offersrunnable`."""
        return await offers_runnable(request, caller)

    @routes.get("/alloffers", **described)
    async def all_offers(
        request: Request, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """Offers that you see: those you may run, and those that need an approval first."""
        asked = search.read(request.query_params.multi_items())
        return _rendered(await catalog.offers(Scope.of(caller), asked, "visible"))


def _add_offer(routes: APIRouter, catalog: Catalog, identity: IdentityCheck) -> None:
    @routes.get(
        "/offers/{offer_id}",
        response_model=wire.Offer,
        responses=FRESH,
        openapi_extra=reference.RELATED,
    )
    async def offer(offer_id: OfferId, caller: Annotated[Identity, Depends(identity)]) -> Response:
        """One offer, also while it is paused; 404 if you do not see it."""
        return _rendered(await catalog.offer(Scope.of(caller), _id(offer_id)))


def _add_links(routes: APIRouter, catalog: Catalog, identity: IdentityCheck) -> None:
    @routes.get("/offers/{offer_id}/url/{url_id}", response_model=wire.Link, responses=FRESH)
    async def url(
        offer_id: OfferId, url_id: UrlId, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """Your tracking link to a destination of an offer; 0 is the offer's own."""
        link = await catalog.link(Scope.of(caller), _id(offer_id), _id(url_id))
        return _rendered(link)

    @routes.get(
        "/offers/{offer_id}/impressionurl/{url_id}", response_model=wire.Link, responses=FRESH
    )
    async def impression_url(
        offer_id: OfferId, url_id: UrlId, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """Your impression link of an offer; 404 where impressions are not in use."""
        link = await catalog.impression_link(Scope.of(caller), _id(offer_id), _id(url_id))
        return _rendered(link)


def _add_account(routes: APIRouter, catalog: Catalog, identity: IdentityCheck) -> None:
    @routes.get(
        "/affiliate",
        response_model=wire.Affiliate,
        responses=FRESH,
        openapi_extra=reference.AFFILIATE,
    )
    async def affiliate(
        request: Request, caller: Annotated[Identity, Depends(identity)]
    ) -> Response:
        """You, as the network knows you."""
        wanted = search.related(request.query_params.multi_items(), RELATED)
        return _rendered(await catalog.affiliate(Scope.of(caller), wanted))

    @routes.get("/network", response_model=wire.Network, responses=FRESH)
    async def network(caller: Annotated[Identity, Depends(identity)]) -> Response:
        """The network that you work with."""
        return _rendered(await catalog.network(Scope.of(caller)))

    @routes.get("/settings", response_model=wire.Settings, responses=FRESH)
    async def settings(caller: Annotated[Identity, Depends(identity)]) -> Response:
        """Time zone, currency and language that you and your network use."""
        return _rendered(await catalog.settings(Scope.of(caller)))


def _id(text: str) -> int:
    """The number in a path; a text that is none names nothing."""
    if not (text.isascii() and text.isdigit() and len(text) < _ID_LENGTH_MAX):
        raise NotFoundError
    return int(text)


def _rendered(answer: Answer) -> Response:
    return JsonResponse(answer.body, headers=fresh(answer.through))
