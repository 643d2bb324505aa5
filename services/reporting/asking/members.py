"""The members of a request's body, read as deployed programs write them; pure.

Numbers may be strings, objects and lists may be missing or null, and unknown members are left
alone. What cannot be honoured is refused by name rather than answered wrongly.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from shared.errors import InvalidError

Body = Mapping[str, Any]

_ID_LENGTH: Final = 32
_HEX: Final = frozenset("0123456789abcdef")


def read_body(raw: bytes) -> Body:
    """The JSON object of a request.

    Raises:
        InvalidError: it is none.
    """
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"Invalid parameters. The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidError("Invalid parameters. The body must be a JSON object.")
    return body


def required(body: Body, name: str) -> Any:
    """The member `name`.

    Raises:
        InvalidError: it is missing, null or an empty text.
    """
    value = body.get(name)
    if value in (None, ""):
        raise InvalidError(f"Invalid parameters. {name}: required")
    return value


def whole(value: Any, name: str) -> int:
    """`value`, sent as `name`, as a whole number.

    Raises:
        InvalidError: it is none.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(name)  # noqa: TRY301 - one message for all
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(name)  # noqa: TRY301
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidError(f"Invalid parameters. {name}: must be a whole number") from error


def flag(body: Body, name: str, *, default: bool) -> bool:
    """The member `name`; `default` unless it is true or false."""
    value = body.get(name)
    return value if isinstance(value, bool) else default


def object_of(body: Body, name: str) -> Body:
    """The member `name`; an empty object unless it is one."""
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def list_of(body: Body, name: str) -> Sequence[Any]:
    """The member `name`; an empty list unless it is one."""
    value = body.get(name)
    return value if isinstance(value, list) else ()


def is_hex_id(text: str) -> bool:
    """Whether `text` looks like the id of a click or a conversion."""
    return len(text) == _ID_LENGTH and _HEX.issuperset(text)
