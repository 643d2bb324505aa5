"""The routes of single-use links: three for staff, two for whoever was sent a link.

A visitor is asked for no token; the gateway's signed identity still tells the address. What a
visitor gets is a page, also where it tells that something failed.
"""

from collections.abc import Awaitable
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import SecretStr

from services.keys import edge
from services.keys import wire as keys_wire
from services.keys.shares import wire
from services.keys.shares.credentials import PASSPHRASE_LENGTH_MAX, ShareToken
from services.keys.shares.domain import SHARE_ID
from services.keys.shares.handlers import Listed, ShareHandlers, Visitor, Wish
from services.keys.shares.page import Pages, View
from services.keys.staff import Staff
from shared.clock import rfc3339
from shared.errors import InvalidError, NotFoundError, UnavailableError
from shared.http import IdentityCheck, JsonResponse

FORM_BYTES_MAX: Final = 4_096
_FORM: Final = "application/x-www-form-urlencoded"
_STAFF: Final = "/v1/networks/apikeys/{key_id}/shares"
_PAGE: Final = "/v1/shares/{token}"

ShareId = Annotated[str, Path(description="The link.", examples=[wire.SHARE_ID])]
Token = Annotated[str, Path(description="The secret part of the link.", examples=["x3nE…QeRfTw"])]
Reason = Annotated[
    str,
    Query(max_length=keys_wire.REASON_LENGTH_MAX, description="Why; kept in the audit trail."),
]


_ERRORS: Final = edge.ERRORS | edge.NOT_FOUND
_CONFLICT: Final[edge.Responses] = {
    409: {
        "model": keys_wire.Refusal,
        "description": "The key has ended or has 10 open links; the link ended otherwise.",
    }
}


_HTML: Final = {"text/html": {"schema": {"type": "string"}}}
_WIRE_ERROR: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}


def _page(text: str) -> dict[str, Any]:
    return {"description": text, "content": _HTML}


_LOOKED: Final[edge.Responses] = {
    200: _page("The link is open: a page with a button."),
    401: {"description": "The gateway's signature is missing.", "content": _WIRE_ERROR},
    403: _page("The partner is suspended."),
    404: {"description": "There is no such link, or path.", "content": _HTML | _WIRE_ERROR},
    410: _page("Used, withdrawn, locked, expired, or its key has ended; the page says when."),
    503: _page("What the link needs is away; `Retry-After` says when."),
}
_PRESSED: Final[edge.Responses] = _LOOKED | {
    200: _page("The key, this once."),
    400: _page("What was sent is not the page's form."),
    403: _page("A wrong passphrase, or the partner is suspended."),
}
_FORM_BODY: Final = {
    "requestBody": {
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "passphrase": {
                            "type": "string",
                            "maxLength": PASSPHRASE_LENGTH_MAX,
                            "examples": ["correct horse battery"],
                        }
                    },
                }
            }
        }
    }
}


def add_routes(
    app: FastAPI,
    handlers: ShareHandlers,
    identity: IdentityCheck,
    authenticate: edge.Authenticate,
) -> None:
    """Have `app` serve links.

    Args:
        app: the key service's.
        handlers: what is called.
        identity: verifies what the gateway signed.
        authenticate: likewise, and the caller's token.
    """
    _add_making(app, handlers, authenticate)
    _add_listing(app, handlers, authenticate)
    _add_withdrawing(app, handlers, authenticate)
    _add_page(app, handlers, identity, Pages())


def _add_making(app: FastAPI, handlers: ShareHandlers, authenticate: edge.Authenticate) -> None:
    @app.post(
        _STAFF,
        status_code=HTTPStatus.CREATED,
        response_model=wire.MadeShare,
        responses=_ERRORS | _CONFLICT,
    )
    async def make_share(
        staff: Annotated[Staff, Depends(authenticate)],
        key_id: edge.KeyId,
        body: wire.MakeShare | None = None,
    ) -> Response:
        """Make a link that shows the key once, to whoever opens it first."""
        wanted = body or wire.MakeShare()
        wish = Wish(wanted.expires_in_seconds, wanted.passphrase, wanted.reason)
        made, token = await handlers.make(staff, edge.key_id_of(key_id), wish)
        row = share_row(made) | {"url": handlers.address_of(token)}
        return JsonResponse(row, status_code=HTTPStatus.CREATED, headers=edge.NO_STORE)


def _add_listing(app: FastAPI, handlers: ShareHandlers, authenticate: edge.Authenticate) -> None:
    @app.get(_STAFF, response_model=wire.Shares, responses=_ERRORS)
    async def list_shares(
        staff: Annotated[Staff, Depends(authenticate)], key_id: edge.KeyId
    ) -> Response:
        """The links of a key, newest first: who made them, and what became of each."""
        found = await handlers.listed(staff, edge.key_id_of(key_id))
        return JsonResponse({"shares": [share_row(listed) for listed in found]})


def _add_withdrawing(
    app: FastAPI, handlers: ShareHandlers, authenticate: edge.Authenticate
) -> None:
    @app.delete(
        f"{_STAFF}/{{share_id}}", response_model=wire.ShareRow, responses=_ERRORS | _CONFLICT
    )
    async def withdraw_share(
        staff: Annotated[Staff, Depends(authenticate)],
        key_id: edge.KeyId,
        share_id: ShareId,
        reason: Reason = "",
    ) -> Response:
        """Take back a link that nobody has used; asked again, tells how it stands."""
        names = (edge.key_id_of(key_id), _share_id(share_id))
        return JsonResponse(share_row(await handlers.withdraw(staff, *names, reason)))


def _add_page(app: FastAPI, handlers: ShareHandlers, identity: IdentityCheck, pages: Pages) -> None:
    async def page(shown: Awaitable[View]) -> Response:
        try:
            return pages.of(await shown)
        except NotFoundError:
            return pages.unknown()
        except UnavailableError as error:
            return pages.unavailable(error.retry_after_seconds)

    @app.get(_PAGE, response_class=HTMLResponse, responses=_LOOKED)
    async def look_at_share(request: Request, token: Token) -> Response:
        """The page of a link; it shows no key and changes nothing, so previews may fetch it."""
        identity(request)
        return await page(handlers.look(ShareToken(token)))

    @app.post(_PAGE, response_class=HTMLResponse, responses=_PRESSED, openapi_extra=_FORM_BODY)
    async def open_share(request: Request, token: Token) -> Response:
        """Press the button of the page: it shows the key to the first who does, and once."""
        signed = identity(request)
        try:
            passphrase = await _passphrase(request)
        except InvalidError:
            return pages.malformed()
        visitor = Visitor(signed.request_id, signed.client_ip)
        return await page(handlers.open(visitor, ShareToken(token), passphrase))


async def _passphrase(request: Request) -> SecretStr:
    """The form's only field; empty if it was left out.

    Raises:
        InvalidError: the body is no such form.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise InvalidError(f"The form is longer than {FORM_BYTES_MAX} bytes.")
    kind = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    if body and kind != _FORM:
        raise InvalidError(f"The body is {kind}; send {_FORM}.")
    try:
        fields = parse_qs(body.decode("ascii"), errors="strict", max_num_fields=2)
    except ValueError as error:
        raise InvalidError("The body is no form.") from error
    passphrase = fields.get("passphrase", [""])[0]
    if len(passphrase) > PASSPHRASE_LENGTH_MAX:
        raise InvalidError(f"passphrase: at most {PASSPHRASE_LENGTH_MAX} characters.")
    return SecretStr(passphrase)


def share_row(listed: Listed) -> dict[str, Any]:
    """A link as `wire.ShareRow`."""
    share = listed.share
    was_used = share.status == "used"
    ended_at = None if share.ended_at is None else rfc3339(share.ended_at)
    return {
        "share_id": share.share_id,
        "key_id": share.key_id,
        "state": listed.state,
        "has_passphrase": share.has_passphrase,
        "attempts_left": share.attempts_left if share.has_passphrase else None,
        "created_at": rfc3339(share.created_at),
        "created_by": share.created_by,
        "created_by_name": share.created_by_name,
        "expires_at": rfc3339(share.expires_at),
        "opened_at": ended_at if was_used else None,
        "opened_ip": share.ended_ip if was_used else None,
        "ended_at": ended_at,
    }


def _share_id(text: str) -> str:
    """A link's id that may exist; another names nothing."""
    if not SHARE_ID.fullmatch(text):
        raise NotFoundError
    return text
