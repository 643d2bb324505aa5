"""Examples of whole requests and answers, put together from those of their members.

A member without an example of its own is one that nobody can write a request by, so the generator
stops at it.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.errors import SetupError
from tools.docs.shapes import REFERENCE

_PLAIN: Final[dict[str, Any]] = {"boolean": False, "null": None}
"""What needs no example to be understood."""


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], place: str) -> Any:
    """A value of `schema`.

    Args:
        schema: of a body or a member.
        schemas: what references lead to, by name.
        place: where it stands, for the error.

    Raises:
        SetupError: a member has neither an example nor a default; the message names it.
    """
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REFERENCE)
        return example_of(schemas[name], schemas, f"{place} ({name})")
    if schema.get("examples"):
        return schema["examples"][0]
    for given in ("example", "const", "default"):
        if given in schema:
            return schema[given]
    return _composed(schema, schemas, place)


def _composed(schema: Mapping[str, Any], schemas: Mapping[str, Any], place: str) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas, place)
    match schema.get("type"):
        case "object":
            members = schema.get("properties", {})
            return {name: example_of(members[name], schemas, f"{place}.{name}") for name in members}
        case "array":
            return [example_of(schema["items"], schemas, f"{place}[]")]
        case kind if kind in _PLAIN:
            return _PLAIN[kind]
        case _:
            raise SetupError(f"{place}: give it an example.")
