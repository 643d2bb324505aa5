"""The routes of the lists of reference: any portal's key, no paging, parameters tolerated."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from services.reporting.asking.answers import Answer
from services.reporting.freshness import FRESH, fresh
from services.reporting.meta import wire
from services.reporting.meta.handlers import Lists
from services.reporting.scope import Scope
from shared.http import IdentityCheck, JsonResponse
from shared.identity import Identity

_TRAFFIC: Final[tuple[tuple[str, str, type[BaseModel]], ...]] = (
    ("regions", "regions", wire.Regions),
    ("cities", "cities", wire.Cities),
    ("dmas", "dmas", wire.Dmas),
    ("mobilecarriers", "mobile_carriers", wire.Carriers),
    ("browsers", "browsers", wire.Browsers),
    ("platforms", "platforms", wire.Platforms),
    ("osversions", "os_versions", wire.OsVersions),
    ("devices", "devices", wire.Devices),
    ("connectiontypes", "connection_types", wire.ConnectionTypes),
)
"""Path, list and shape."""


def router(lists: Lists, identity: IdentityCheck) -> APIRouter:
    """The routes of `lists`; a caller is who `identity` says."""
    routes = APIRouter(prefix="/v1/meta", tags=["reference"])
    _add_world(routes, lists, identity)
    for path, name, shape in _TRAFFIC:
        _add_traffic(routes, lists, identity, (path, name, shape))
    return routes


def _add_world(routes: APIRouter, lists: Lists, identity: IdentityCheck) -> None:
    known: dict[str, Any] = {"responses": FRESH, "dependencies": [Depends(identity)]}

    @routes.get("/timezones", response_model=wire.Timezones, **known)
    async def timezones() -> Response:
        """Every time zone that a request may name, with its offset now."""
        return _rendered(lists.timezones())

    @routes.get("/countries", response_model=wire.Countries, **known)
    async def countries() -> Response:
        """Every country by name; rulesets of offers name them by the same ids."""
        return _rendered(lists.countries())

    @routes.get("/currencies", response_model=wire.Currencies, **known)
    async def currencies() -> Response:
        """Every currency that is tender somewhere, by its code."""
        return _rendered(lists.currencies())

    @routes.get("/browserlanguages", response_model=wire.Languages, **known)
    async def languages() -> Response:
        """Every language that a browser may ask for, by name."""
        return _rendered(lists.languages())


def _add_traffic(
    routes: APIRouter,
    lists: Lists,
    identity: IdentityCheck,
    listed: tuple[str, str, type[BaseModel]],
) -> None:
    path, name, shape = listed

    async def answer(caller: Annotated[Identity, Depends(identity)]) -> Response:
        return _rendered(await lists.of_traffic(_scope(caller), name))

    summary = (shape.__doc__ or "").splitlines()[0]
    routes.add_api_route(
        f"/{path}",
        answer,
        name=path,
        description=f"{summary} As your facts of the last three months name them.",
        response_model=shape,
        responses=FRESH,
    )


def _scope(caller: Identity) -> Scope | None:
    """None for the key of another portal, which has no partner's traffic."""
    return Scope.of(caller) if caller.network_affiliate_id else None


def _rendered(answer: Answer) -> Response:
    return JsonResponse(answer.body, headers=fresh(answer.through))
