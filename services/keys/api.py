"""The routes of the key service, for a network's staff.

A request comes through the gateway with its signed identity (for the address and the request's id)
and with the caller's own token, which is verified here. Each route is parse, call, render.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Path, Query, Request, Response

from services.keys import domain, wire
from services.keys.domain import Key
from services.keys.handlers import Handlers, Shown, Staff, Wish
from services.keys.store import Search
from shared.clock import rfc3339
from shared.errors import InvalidError, NotFoundError
from shared.events import Budget, NetworkState, PartnerAccess
from shared.http import IdentityCheck, JsonResponse, error_body, new_app, request_id
from shared.tokens import TokenVerifier

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000
ID_MAX: Final = 2**53 - 1

PartnerId = Annotated[int, Path(ge=1, le=ID_MAX, description="The partner.", examples=[7])]
KeyId = Annotated[str, Path(description="The key.", examples=[wire.KEY_ID])]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows a page.")]
Status = Annotated[domain.Status | None, Query(description="Only keys of this status.")]
Text = Annotated[
    str | None,
    Query(
        max_length=domain.INTEGRATION_LENGTH_MAX,
        pattern=r"^[^\x00]*$",
        description="Part of an integration's name, a key id, or the last four of a key.",
    ),
]
Cursor = Annotated[str | None, Query(description="`paging.next_cursor` of the page before.")]
Authenticate = Callable[[Request], Awaitable[Staff]]

_NO_STORE: Final = {"cache-control": "no-store"}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": wire.Refusal, "description": "The text names what is wrong."},
    401: {"model": wire.Refusal, "description": "No token, or one that proves nothing."},
    403: {
        "model": wire.Refusal,
        "description": "`Forbidden`: the permission is missing. The attempt is in the audit trail.",
    },
    503: {"model": wire.Refusal, "description": "Nothing has changed; `Retry-After` says when."},
}
_NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": wire.Refusal, "description": "The network has nothing of that id."}
}
_NOT_ACTIVE: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": wire.Refusal, "description": "The key is revoked or expired."}
}
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    409: {
        "model": wire.Ineligible,
        "description": "The partner may not have a key, or the integration has an active one.",
    }
}


def _accepted(model: type[wire.Model]) -> dict[int | str, dict[str, Any]]:
    text = "Kafka has not confirmed it within 5 s: it stands, and reaches the doors later."
    return {202: {"model": model, "description": text}}


def create_app(handlers: Handlers, identity: IdentityCheck, tokens: TokenVerifier) -> FastAPI:
    """The application; it serves exactly the rows of `shared.routes` that name this service.

    What it is given is used by requests only: for `openapi()` anything will do.
    """
    app = new_app("Keys", "Partners' keys, addresses, streams and budgets, for a network's staff.")
    app.add_exception_handler(domain.IneligibleError, _on_ineligible)

    async def staff(request: Request) -> Staff:
        signed = identity(request)
        caller = await tokens.verify(request.headers.get("authorization"))
        return Staff(caller, signed.request_id, signed.client_ip)

    _add_issue(app, handlers, staff)
    _add_lists(app, handlers, staff)
    _add_reveal(app, handlers, staff)
    _add_revoke(app, handlers, staff)
    _add_allowlist(app, handlers, staff)
    _add_firehose(app, handlers, staff)
    _add_budgets(app, handlers, staff)
    return app


def _add_issue(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.post(
        "/v1/networks/affiliates/{affiliate_id}/apikeys",
        status_code=HTTPStatus.CREATED,
        response_model=wire.ShownKey,
        responses=_ERRORS | _NOT_FOUND | _REFUSED,
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


def _add_lists(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    async def listed(staff: Staff, search: Search, limit: int) -> Response:
        found = await handlers.search(staff, search, limit + 1)
        page = found[:limit]
        return JsonResponse(
            {
                "apikeys": [key_row(key, handlers.clock.time()) for key in page],
                "paging": {
                    "limit": limit,
                    "next_cursor": page[-1].key_id if len(found) > limit else None,
                },
            }
        )

    @app.get(
        "/v1/networks/affiliates/{affiliate_id}/apikeys",
        response_model=wire.KeysPage,
        responses=_ERRORS | _NOT_FOUND,
    )
    async def list_keys_of_partner(
        staff: Annotated[Staff, Depends(authenticate)],
        affiliate_id: PartnerId,
        search: Annotated[Search, Depends(_search)],
        limit: Limit = LIMIT_DEFAULT,
    ) -> Response:
        """The keys of a partner, newest first."""
        return await listed(staff, replace(search, network_affiliate_id=affiliate_id), limit)

    @app.get("/v1/networks/apikeys", response_model=wire.KeysPage, responses=_ERRORS)
    async def list_keys(
        staff: Annotated[Staff, Depends(authenticate)],
        search: Annotated[Search, Depends(_search)],
        limit: Limit = LIMIT_DEFAULT,
    ) -> Response:
        """The keys of the network, newest first."""
        return await listed(staff, search, limit)


def _search(status: Status = None, search: Text = None, cursor: Cursor = None) -> Search:
    return Search(status=status, text=search, behind=_behind(cursor))


def _add_reveal(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.post(
        "/v1/networks/apikeys/{key_id}/reveal",
        response_model=wire.ShownKey,
        responses=_ERRORS | _NOT_FOUND | _NOT_ACTIVE,
    )
    async def reveal_key(
        staff: Annotated[Staff, Depends(authenticate)],
        key_id: KeyId,
        body: wire.Because | None = None,
    ) -> Response:
        """Show a key's secret again; that it was shown is in the audit trail."""
        shown = await handlers.reveal(staff, _key_id(key_id), body.reason if body else "")
        return _secret(shown, handlers, HTTPStatus.OK)


def _add_revoke(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.post(
        "/v1/networks/apikeys/{key_id}/revoke",
        response_model=wire.ChangedKey,
        responses=_ERRORS | _NOT_FOUND | _accepted(wire.ChangedKey),
    )
    async def revoke_key(
        staff: Annotated[Staff, Depends(authenticate)],
        key_id: KeyId,
        body: wire.Because | None = None,
    ) -> Response:
        """End a key for good; asked again, tells whether that has reached the doors' topic."""
        done = await handlers.revoke(staff, _key_id(key_id), body.reason if body else "")
        row = key_row(done.now, handlers.clock.time())
        return _changed(row, propagated=done.propagated)


def _add_allowlist(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.put(
        "/v1/networks/apikeys/{key_id}/allowlist",
        response_model=wire.ChangedKey,
        responses=_ERRORS | _NOT_FOUND | _NOT_ACTIVE | _accepted(wire.ChangedKey),
    )
    async def set_allowlist(
        staff: Annotated[Staff, Depends(authenticate)], key_id: KeyId, body: wire.SetAllowlist
    ) -> Response:
        """Replace the addresses a key may be used from."""
        done = await handlers.set_allowlist(staff, _key_id(key_id), body.allowlist, body.reason)
        row = key_row(done.now, handlers.clock.time())
        return _changed(row, propagated=done.propagated)


def _add_firehose(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.put(
        "/v1/networks/affiliates/{affiliate_id}/firehose",
        response_model=wire.Firehose,
        responses=_ERRORS | _NOT_FOUND | _accepted(wire.Firehose),
    )
    async def set_firehose(
        staff: Annotated[Staff, Depends(authenticate)],
        affiliate_id: PartnerId,
        body: wire.SetFirehose,
    ) -> Response:
        """Let a partner open streams, or end them."""
        done = await handlers.set_firehose(
            staff, affiliate_id, enabled=body.enabled, reason=body.reason
        )
        return _changed(firehose_row(done.now), propagated=done.propagated)


def _add_budgets(app: FastAPI, handlers: Handlers, authenticate: Authenticate) -> None:
    @app.get("/v1/networks/budgets", response_model=wire.Budgets, responses=_ERRORS)
    async def get_budgets(staff: Annotated[Staff, Depends(authenticate)]) -> Response:
        """The budgets that all keys of the network share."""
        return JsonResponse(budgets_row(await handlers.budgets(staff)))

    @app.put(
        "/v1/networks/budgets",
        response_model=wire.ChangedBudgets,
        responses=_ERRORS | _accepted(wire.ChangedBudgets),
    )
    async def set_budgets(
        staff: Annotated[Staff, Depends(authenticate)], body: wire.SetBudgets
    ) -> Response:
        """Set the budgets of the network; only Super Users may."""
        wanted = NetworkState(
            network_id=staff.network_id,
            version=0,
            affiliate=Budget(rate=body.affiliate.rate, burst=body.affiliate.burst),
            granular_per_hour=body.granular_per_hour,
            shadow=body.shadow,
        )
        done = await handlers.set_budgets(staff, wanted, body.reason)
        return _changed(budgets_row(done.now), propagated=done.propagated)


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


def firehose_row(access: PartnerAccess) -> dict[str, Any]:
    """What a partner may stream, as `wire.Firehose` without `propagated`."""
    return {
        "network_affiliate_id": access.network_affiliate_id,
        "enabled": access.firehose_enabled,
        "suspended": access.suspended,
    }


def budgets_row(state: NetworkState) -> dict[str, Any]:
    """Budgets as `wire.Budgets`."""
    return {
        "affiliate": {"rate": state.affiliate.rate, "burst": state.affiliate.burst},
        "granular_per_hour": state.granular_per_hour,
        "shadow": state.shadow,
    }


def _secret(shown: Shown, handlers: Handlers, status: HTTPStatus) -> Response:
    row = key_row(shown.key, handlers.clock.time())
    secret = {"key": shown.secret.reveal(), "propagated": shown.propagated}
    return JsonResponse(row | secret, status_code=status, headers=_NO_STORE)


def _changed(row: dict[str, Any], *, propagated: bool) -> Response:
    status = HTTPStatus.OK if propagated else HTTPStatus.ACCEPTED
    return JsonResponse(row | {"propagated": propagated}, status_code=status)


def _key_id(text: str) -> str:
    """A key id that may exist; another names nothing."""
    if not domain.KEY_ID.fullmatch(text):
        raise NotFoundError
    return text


def _behind(cursor: str | None) -> str | None:
    if cursor is not None and not domain.KEY_ID.fullmatch(cursor):
        raise InvalidError("cursor: not one of this list; take paging.next_cursor as it came.")
    return cursor


async def _on_ineligible(request: Request, error: Exception) -> Response:
    reasons = error.obstacles if isinstance(error, domain.IneligibleError) else ()
    headers = {"x-request-id": request_id(request)}
    body = error_body(str(error), reasons=reasons)
    return JsonResponse(body, status_code=HTTPStatus.CONFLICT, headers=headers)
