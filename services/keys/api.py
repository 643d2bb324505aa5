"""The routes of the key service, for a network's staff.

A request comes through the gateway with its signed identity (for the address and the request's id)
and with the caller's own token, which is verified here. Each route is parse, call, render.
"""

from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request, Response

from services.keys import domain, edge, wire
from services.keys.access import api as access_routes
from services.keys.access.handlers import AccessHandlers
from services.keys.domain import Key, Wish
from services.keys.edge import Authenticate, KeyId, PartnerId
from services.keys.handlers import Handlers, Shown
from services.keys.portal import api as portal_routes
from services.keys.portal.handlers import PortalHandlers
from services.keys.shares import api as share_routes
from services.keys.shares.handlers import ShareHandlers
from services.keys.staff import Staff
from services.keys.table import api as table_routes
from services.keys.table.handlers import TableHandlers
from shared.clock import rfc3339
from shared.http import IdentityCheck, JsonResponse, error_body, new_app, request_id
from shared.tokens import TokenVerifier

_REFUSED: Final[edge.Responses] = {
    409: {
        "model": wire.Ineligible,
        "description": "The partner may not have a key, or the integration has an active one.",
    }
}


@dataclass(frozen=True, slots=True)
class Areas:
    """What the routes call, area by area."""

    keys: Handlers
    access: AccessHandlers
    table: TableHandlers
    shares: ShareHandlers
    portal: PortalHandlers


def described() -> FastAPI:
    """The application wired to nothing, for its `openapi()`."""
    nothing: Any = None
    return create_app(Areas(*(nothing for _ in fields(Areas))), nothing, nothing)


def create_app(areas: Areas, identity: IdentityCheck, tokens: TokenVerifier) -> FastAPI:
    """The application; it serves exactly the rows of `shared.routes` that name this service."""
    app = new_app("Keys", "Partners' keys, addresses, streams and budgets, for a network's staff.")
    app.add_exception_handler(domain.IneligibleError, _on_ineligible)

    async def staff(request: Request) -> Staff:
        signed = identity(request)
        caller = await tokens.verify(request.headers.get("authorization"))
        return Staff(caller, signed.request_id, signed.client_ip)

    _add_issue(app, areas.keys, staff)
    _add_reveal(app, areas.keys, staff)
    _add_revoke(app, areas.keys, staff)
    _add_allowlist(app, areas.keys, staff)
    access_routes.add_routes(app, areas.access, staff)
    table_routes.add_routes(app, areas.table, staff)
    share_routes.add_routes(app, areas.shares, identity, staff)
    portal_routes.add_routes(app, areas.portal, staff)
    return app


def _add_issue(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.post(
        "/v1/networks/affiliates/{affiliate_id}/apikeys",
        status_code=HTTPStatus.CREATED,
        response_model=wire.ShownKey,
        responses=edge.ERRORS | edge.NOT_FOUND | _REFUSED,
    )
    async def issue_key(
        staff: Annotated[Staff, Depends(authenticate)], affiliate_id: PartnerId, body: wire.Issue
    ) -> Response:
        """Issue a key to a partner; its secret is in this answer."""
        wish = Wish(
            integration=body.integration,
            allowlist=body.allowlist,
            expires_at=body.expires_at.timestamp() if body.expires_at else None,
            reason=body.reason,
            override_reason=body.override_reason,
        )
        shown = await handlers.issue(staff, affiliate_id, wish)
        return _secret(shown, handlers, HTTPStatus.CREATED)


def _add_reveal(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.post(
        "/v1/networks/apikeys/{key_id}/reveal",
        response_model=wire.ShownKey,
        responses=edge.ERRORS | edge.NOT_FOUND | edge.NOT_LIVE,
    )
    async def reveal_key(
        staff: Annotated[Staff, Depends(authenticate)],
        key_id: KeyId,
        body: wire.Because | None = None,
    ) -> Response:
        """Show a key's secret again; that it was shown is in the audit trail."""
        shown = await handlers.reveal(staff, edge.key_id_of(key_id), body.reason if body else "")
        return _secret(shown, handlers, HTTPStatus.OK)


def _add_revoke(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.post(
        "/v1/networks/apikeys/{key_id}/revoke",
        response_model=wire.ChangedKey,
        responses=edge.ERRORS | edge.NOT_FOUND | edge.accepted(wire.ChangedKey),
    )
    async def revoke_key(
        staff: Annotated[Staff, Depends(authenticate)],
        key_id: KeyId,
        body: wire.Because | None = None,
    ) -> Response:
        """End a key for good; asked again, tells whether that has reached the doors' topic."""
        done = await handlers.revoke(staff, edge.key_id_of(key_id), body.reason if body else "")
        row = key_row(done.now, handlers.clock.time())
        return edge.changed(row, propagated=done.propagated)


def _add_allowlist(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.put(
        "/v1/networks/apikeys/{key_id}/allowlist",
        response_model=wire.ChangedKey,
        responses=edge.ERRORS | edge.NOT_FOUND | edge.NOT_LIVE | edge.accepted(wire.ChangedKey),
    )
    async def set_allowlist(
        staff: Annotated[Staff, Depends(authenticate)], key_id: KeyId, body: wire.SetAllowlist
    ) -> Response:
        """Replace the addresses a key may be used from."""
        done = await handlers.set_allowlist(
            staff, edge.key_id_of(key_id), body.allowlist, body.reason
        )
        row = key_row(done.now, handlers.clock.time())
        return edge.changed(row, propagated=done.propagated)


# --- rendering ------------------------------------------------------------------------------------


def key_row(key: Key, now: float) -> dict[str, Any]:
    """A key as `wire.KeyRow`."""
    return {
        "key_id": key.key_id,
        "network_affiliate_id": key.network_affiliate_id,
        "integration": key.integration,
        "masked": key.masked,
        "status": key.shown_status(now),
        "allowlist": key.allowlist,
        "created_at": rfc3339(key.created_at),
        "created_by": key.created_by,
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "ended_at": None if key.ended_at is None else rfc3339(key.ended_at),
    }


def _secret(shown: Shown, handlers: Handlers, status: HTTPStatus) -> Response:
    row = key_row(shown.key, handlers.clock.time())
    secret = {"key": shown.secret.reveal(), "propagated": shown.propagated}
    return JsonResponse(row | secret, status_code=status, headers=edge.NO_STORE)


async def _on_ineligible(request: Request, error: Exception) -> Response:
    reasons = error.obstacles if isinstance(error, domain.IneligibleError) else ()
    headers = {"x-request-id": request_id(request)}
    body = error_body(str(error), reasons=reasons)
    return JsonResponse(body, status_code=HTTPStatus.CONFLICT, headers=headers)
