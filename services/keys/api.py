"""The routes of the key service, for a network's staff.

A request comes through the gateway with its signed identity (for the address and the request's id)
and with the caller's own token, which is verified here. Each route is parse, call, render.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header, Request, Response

from services.keys import edge, wire
from services.keys.access import api as access_routes
from services.keys.access.handlers import AccessHandlers
from services.keys.bodies import BodyRoute
from services.keys.domain import Wish
from services.keys.edge import Authenticate, KeyId, PartnerId
from services.keys.eligibility import IneligibleError
from services.keys.handlers import Handlers
from services.keys.idempotency import Once, request_digest
from services.keys.issuing import Issuing
from services.keys.portal import api as portal_routes
from services.keys.portal.handlers import PortalHandlers
from services.keys.rotation import Turnover
from services.keys.shares import api as share_routes
from services.keys.shares.handlers import ShareHandlers
from services.keys.staff import Staff
from services.keys.table import api as table_routes
from services.keys.table.handlers import TableHandlers
from services.keys.telling import Shown
from shared.http import IdentityCheck, JsonResponse, error_body, new_app, request_id
from shared.tokens import TokenVerifier

_REFUSED: Final[edge.Responses] = {
    409: {
        "model": wire.Ineligible,
        "description": "The partner may not have a key, the integration has an active one, or the "
        "`Idempotency-Key` was used for another request.",
    }
}
_NOT_ROTATED: Final[edge.Responses] = {
    409: {
        "model": wire.Refusal,
        "description": "The key is revoked or expired, was rotated before, or the "
        "`Idempotency-Key` was used for another request.",
    }
}
_NOT_EXTENDED: Final[edge.Responses] = {
    409: {
        "model": wire.Refusal,
        "description": "The key is revoked or expired, or was rotated and may only end earlier.",
    }
}
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="Makes the request take effect once: sent again within 24 hours by the same "
        "user, it gets the same answer.",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    ),
]


@dataclass(frozen=True, slots=True)
class Areas:
    """What the routes call, area by area."""

    issuing: Issuing
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
    app.add_exception_handler(IneligibleError, _on_ineligible)
    app.router.route_class = BodyRoute

    async def staff(request: Request) -> Staff:
        signed = identity(request)
        caller = await tokens.verify(request.headers.get("authorization"))
        return Staff(caller, signed.request_id, signed.client_ip)

    _add_issue(app, areas.issuing, staff)
    _add_rotate(app, areas.issuing, staff)
    _add_reveal(app, areas.keys, staff)
    _add_revoke(app, areas.keys, staff)
    _add_allowlist(app, areas.keys, staff)
    _add_expiry(app, areas.keys, staff)
    access_routes.add_routes(app, areas.access, staff)
    table_routes.add_routes(app, areas.table, staff)
    share_routes.add_routes(app, areas.shares, identity, staff)
    portal_routes.add_routes(app, areas.portal, staff)
    return app


def _add_issue(app: FastAPI, issuing: Issuing, authenticate: Authenticate) -> None:
    async def issued(
        staff: Staff, affiliate_id: int, body: wire.Issue, route: str, key: str | None
    ) -> Response:
        wish = Wish(
            integration=body.integration,
            allowlist=tuple(body.allowlist),
            expires_at=_seconds(body.expires_at),
            not_before=_seconds(body.not_before),
            reason=body.reason,
            override_reason=body.override_reason,
        )
        once = _once(staff, key, route, affiliate_id, wish)
        return _secret(await issuing.issue(staff, affiliate_id, wish, once), HTTPStatus.CREATED)

    @app.post(
        "/v1/networks/affiliates/{affiliate_id}/apikeys",
        status_code=HTTPStatus.CREATED,
        response_model=wire.ShownKey,
        responses=edge.ERRORS | edge.NOT_FOUND | _REFUSED,
    )
    async def issue_key(
        staff: Annotated[Staff, Depends(authenticate)],
        affiliate_id: PartnerId,
        body: wire.Issue,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Issue a key to a partner; its secret is in this answer."""
        return await issued(staff, affiliate_id, body, "issue", idempotency_key)

    @app.post(
        "/v1/networks/apikey",
        status_code=HTTPStatus.CREATED,
        response_model=wire.ShownKey,
        responses=edge.ERRORS | edge.NOT_FOUND | _REFUSED,
    )
    async def issue_key_by_resource(
        staff: Annotated[Staff, Depends(authenticate)],
        body: wire.IssueByResource,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Issue a key to the partner that the body names; its secret is in this answer."""
        return await issued(staff, body.resource_id, body, "issue by resource", idempotency_key)


def _add_rotate(app: FastAPI, issuing: Issuing, authenticate: Authenticate) -> None:
    @app.post(
        "/v1/networks/apikeys/{key_id}/rotate",
        status_code=HTTPStatus.CREATED,
        response_model=wire.RotatedKey,
        responses=edge.ERRORS | edge.NOT_FOUND | _NOT_ROTATED,
    )
    async def rotate_key(
        staff: Annotated[Staff, Depends(authenticate)],
        key_id: KeyId,
        body: wire.Rotate | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Have a key give way to a new one, whose secret is here; it lives on for an overlap."""
        body = body or wire.Rotate()
        turnover = Turnover(
            overlap_seconds=body.overlap_seconds,
            has_expiry="expires_at" in body.model_fields_set,
            expires_at=_seconds(body.expires_at),
            reason=body.reason,
        )
        old = edge.key_id_of(key_id)
        once = _once(staff, idempotency_key, "rotate", old, turnover)
        return _secret(await issuing.rotate(staff, old, turnover, once), HTTPStatus.CREATED)


def _once(staff: Staff, key: str | None, *asked: object) -> Once | None:
    """The request as one that takes effect once, if its sender asks for that."""
    if key is None:
        return None
    return Once(staff.network_id, staff.caller.subject, key, request_digest(*asked))


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
        return _secret(shown, HTTPStatus.OK)


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
        row = edge.key_row(done.now, handlers.clock.time())
        return edge.changed(row, propagated=done.propagated)


def _add_expiry(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.put(
        "/v1/networks/apikeys/{key_id}/expiry",
        response_model=wire.ChangedKey,
        responses=edge.ERRORS | edge.NOT_FOUND | _NOT_EXTENDED | edge.accepted(wire.ChangedKey),
    )
    async def set_expiry(
        staff: Annotated[Staff, Depends(authenticate)], key_id: KeyId, body: wire.SetExpiry
    ) -> Response:
        """Have a key end at another moment, or never."""
        expires_at = _seconds(body.expires_at)
        done = await handlers.set_expiry(staff, edge.key_id_of(key_id), expires_at, body.reason)
        row = edge.key_row(done.now, handlers.clock.time())
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
        row = edge.key_row(done.now, handlers.clock.time())
        return edge.changed(row, propagated=done.propagated)


# --- rendering ------------------------------------------------------------------------------------


def _secret(shown: Shown, status: HTTPStatus) -> Response:
    row = edge.key_row(shown.key, shown.at)
    row |= {"key": shown.secret.reveal(), "propagated": shown.propagated}
    if shown.predecessor is not None:
        row["predecessor"] = edge.key_row(shown.predecessor, shown.at)
    return JsonResponse(row, status_code=status, headers=edge.NO_STORE)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


async def _on_ineligible(request: Request, error: Exception) -> Response:
    reasons = error.obstacles if isinstance(error, IneligibleError) else ()
    headers = {"x-request-id": request_id(request)}
    body = error_body(str(error), reasons=reasons)
    return JsonResponse(body, status_code=HTTPStatus.CONFLICT, headers=headers)
