"""What the routes of all areas have in common: parameters, documented refusals, renderings."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Path, Request, Response

from services.keys import domain, wire
from services.keys.staff import Staff
from shared.errors import NotFoundError
from shared.http import JsonResponse

ID_MAX: Final = 2**53 - 1
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
