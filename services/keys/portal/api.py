"""The route of the partner's own view, for partner users with a token of the issuer."""

from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Query, Response

from services.keys import edge
from services.keys import wire as keys_wire
from services.keys.portal import wire
from services.keys.portal.handlers import OwnKey, PortalHandlers
from services.keys.staff import Staff
from shared.clock import rfc3339
from shared.http import JsonResponse

_RESPONSES: Final[edge.Responses] = edge.ERRORS | {
    403: {"model": keys_wire.Refusal, "description": "`Forbidden`: the token is no partner's."},
    404: {"model": keys_wire.Refusal, "description": "No key was ever issued to the partner."},
    503: {"model": keys_wire.Refusal, "description": "Nothing was shown; try again."},
}

Masked = Annotated[
    bool,
    Query(
        description="Leave the secrets out. For a page that asks whether there are keys: without "
        "it, every call is told in the audit trail."
    ),
]


def add_routes(app: FastAPI, handlers: PortalHandlers, authenticate: edge.Authenticate) -> None:
    """Have `app` serve the partner's own view."""

    @app.get("/v1/partner/apikeys", response_model=wire.OwnKeys, responses=_RESPONSES)
    async def own_keys(
        user: Annotated[Staff, Depends(authenticate)],
        *,
        masked: Masked = False,
    ) -> Response:
        """Your own API keys, with the secrets of those that work."""
        found = await handlers.own(user, masked=masked)
        rows = [own_row(one, found.at) for one in found.keys]
        answer = {"apikeys": rows, "suspended": found.is_suspended}
        return JsonResponse(answer, headers=edge.NO_STORE)


def own_row(own: OwnKey, now: float) -> dict[str, Any]:
    """A key as `wire.OwnKey`."""
    key = own.key
    return {
        "key_id": key.key_id,
        "integration": key.integration,
        "masked": key.masked,
        "key": own.secret.reveal() if own.secret else None,
        "status": key.shown_status(now),
        "allowlist": key.allowlist,
        "created_at": rfc3339(key.created_at),
        "not_before": rfc3339(key.not_before) if key.not_before else None,
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "ended_at": None if key.ended_at is None else rfc3339(key.ended_at),
        "successor_key_id": key.successor_key_id,
    }
