"""What operators ask the running service for: state, rebuild, recount.

Only callers on this machine are answered, as for `/metrics`; the gateway forwards no such path. It
is not a route with a token, since it must work while the doors, the keys or their issuer do not.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response

from services.reporting.facts.operations import Operations
from shared.errors import NotFoundError
from shared.http import JsonResponse

PREFIX: Final = "/operations/facts"


def _require_local(request: Request) -> None:
    host = request.client.host if request.client is not None else ""
    if host and not ipaddress.ip_address(host).is_loopback:
        raise NotFoundError


def router(operations: Operations, status: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """The operators' routes.

    Args:
        operations: what can be begun.
        status: how the facts are.
    """
    routes = APIRouter(prefix=PREFIX, include_in_schema=False)
    local = Depends(_require_local)

    @routes.get("", dependencies=[local])
    async def state() -> Response:
        """How fresh and how large the facts are, and what operations do."""
        latest = {name: asdict(each) for name, each in operations.latest.items()}
        return JsonResponse({**status(), "operations": latest})

    @routes.post("/{name}", dependencies=[local])
    async def begin(name: Annotated[Literal["rebuild", "recount"], "of the work"]) -> Response:
        """Begin; `GET` tells how far it is. One at a time."""
        return JsonResponse(asdict(operations.begin(name)), status_code=202)

    return routes
