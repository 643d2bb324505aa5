"""How the body of a request is read: no longer than any has to be, and as JSON of one meaning.

A member that comes twice is refused: of an allowlist and an empty list, whoever reads on might take
the other one. So are the numbers that JSON does not have. What is refused here is answered 400.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

BODY_BYTES_MAX: Final = 131_072
"""An allowlist of the longest entries, and as much again."""
_NAME_LENGTH_SHOWN: Final = 60


class BodyRoute(APIRoute):
    """A route whose requests are `BodyRequest`s."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The usual handler, of a request that reads its body so."""
        usual = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await usual(BodyRequest(request.scope, request.receive))

        return handler


class BodyRequest(Request):
    """A request; its errors are those that FastAPI hands on while it reads a body.

    Raises:
        HTTPException: 400, the body is too long or has no one meaning.
    """

    async def body(self) -> bytes:
        """All of it, once."""
        if not hasattr(self, "_body"):
            found = bytearray()
            async for chunk in self.stream():
                found += chunk
                if len(found) > BODY_BYTES_MAX:
                    _refuse(f"The body is longer than {BODY_BYTES_MAX} bytes.")
            self._body = bytes(found)
        return self._body

    async def json(self) -> Any:
        """Its value, once."""
        if not hasattr(self, "_json"):
            self._json = json.loads(
                await self.body(), object_pairs_hook=_members, parse_constant=_constant
            )
        return self._json


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            _refuse(f"{name[:_NAME_LENGTH_SHOWN]!a}: this member comes twice.")
        found[name] = value
    return found


def _constant(text: str) -> NoReturn:
    _refuse(f"{text} is no JSON.")


def _refuse(text: str) -> NoReturn:
    raise HTTPException(400, f"Invalid parameters. {text}")
