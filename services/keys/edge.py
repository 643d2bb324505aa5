"""What the routes of all areas have in common: parameters, documented refusals, renderings."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Path, Request, Response

from services.keys import domain, wire
from services.keys.domain import Key
from services.keys.staff import Staff
from services.keys.table.domain import Row
from shared.clock import rfc3339
from shared.errors import NotFoundError
from shared.http import JsonResponse

ID_MAX: Final = wire.ID_MAX
NO_STORE: Final = {"cache-control": "no-store"}
"""Headers of an answer that carries a secret."""

PartnerId = Annotated[int, Path(ge=1, le=ID_MAX, description="The partner.", examples=[7])]
KeyId = Annotated[str, Path(description="The key.", examples=[wire.KEY_ID])]
Authenticate = Callable[[Request], Awaitable[Staff]]
Responses = dict[int | str, dict[str, Any]]

ERRORS: Final[Responses] = {
    400: {"model": wire.Refusal, "description": "The text names what is wrong."},
    401: {"model": wire.Refusal, "description": "No token, or one that proves nothing."},
    403: {
        "model": wire.Refusal,
        "description": "`Forbidden`: the permission is missing. The attempt is in the audit trail.",
    },
    503: {"model": wire.Refusal, "description": "Nothing has changed; `Retry-After` says when."},
}
NOT_FOUND: Final[Responses] = {
    404: {"model": wire.Refusal, "description": "The network has nothing of that id."}
}
NOT_LIVE: Final[Responses] = {
    409: {"model": wire.Refusal, "description": "The key is revoked or expired."}
}


def key_row(key: Key | Row, now: float) -> dict[str, Any]:
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
        "created_by_name": key.created_by_name,
        "not_before": moment(key.not_before or None),
        "expires_at": moment(key.expires_at),
        "ended_at": moment(key.ended_at),
        "predecessor_key_id": key.predecessor_key_id,
        "successor_key_id": key.successor_key_id,
        "overlap_ends_at": moment(key.overlap_ends_at),
    }


def moment(seconds: float | None) -> str | None:
    """A moment as RFC 3339 text; None if there is none."""
    return None if seconds is None else rfc3339(seconds)


def accepted(model: type[wire.Model]) -> Responses:
    """The answer to a change that Kafka has not confirmed yet."""
    text = "Kafka has not confirmed it in time: it stands, and reaches the doors later."
    return {202: {"model": model, "description": text}}


def key_id_of(text: str) -> str:
    """A key id that may exist; another names nothing.

    Raises:
        NotFoundError: it is none.
    """
    if not domain.KEY_ID.fullmatch(text):
        raise NotFoundError
    return text


def changed(row: dict[str, Any], *, propagated: bool) -> Response:
    """The answer to a change: 200 once Kafka has it, else 202."""
    status = HTTPStatus.OK if propagated else HTTPStatus.ACCEPTED
    return JsonResponse(row | {"propagated": propagated}, status_code=status)
