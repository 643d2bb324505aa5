"""Shapes of JSON as rows that a person reads: member, type, meaning."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

REFERENCE: Final = "#/components/schemas/"
_CHOICES_SHOWN: Final = 12
_BOUNDS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxLength": "at most {} characters",
}


class Row(NamedTuple):
    """A member.

    Attributes:
        name: where it stands, as `query.filters[].resource_type`.
        kind: its type.
        shape: the name of the shape it has, if that has one.
        is_required: whether it must be there.
        text: its meaning, in Markdown.
    """

    name: str
    kind: str
    shape: str
    is_required: bool
    text: str


def rows(schema: Mapping[str, Any], place: str = "") -> Iterator[Row]:
    """The members of a shape and of what is inside it, up to the next shape with a name."""
    inner, place = _inside(schema, place)
    required = inner.get("required", ())
    for name, member in inner.get("properties", {}).items():
        at = f"{place}.{name}" if place else name
        yield Row(at, kind_of(member), shape_of(member), name in required, _text(member))
        yield from rows(member, at)


def _inside(schema: Mapping[str, Any], place: str) -> tuple[Mapping[str, Any], str]:
    """Through lists and maps to what they hold, and what may be absent."""
    while True:
        if "items" in schema:
            schema, place = schema["items"], f"{place}[]"
        elif isinstance(schema.get("additionalProperties"), Mapping):
            schema, place = schema["additionalProperties"], f"{place}.*"
        elif "anyOf" in schema:
            schema = next(iter(_some(schema)), {})
        else:
            return schema, place


def _some(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives but `null`."""
    return [each for each in schema["anyOf"] if each.get("type") != "null"]


def kind_of(schema: Mapping[str, Any]) -> str:
    """The type in words: `string (date)`, `list of integer`, `number or null`."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REFERENCE)
    if "anyOf" in schema:
        kinds = dict.fromkeys(map(kind_of, schema["anyOf"]))
        return " or ".join(kinds)
    if "items" in schema:
        return f"list of {kind_of(schema['items'])}"
    if "const" in schema:
        return f"always {schema['const']}"
    kind = schema.get("type", "string" if "enum" in schema else "any")
    kind = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def shape_of(schema: Mapping[str, Any]) -> str:
    """The name of the shape of a member, of a list's items or of an alternative; empty if none."""
    found, _ = _inside(schema, "")
    return str(found.get("$ref", "")).removeprefix(REFERENCE)


def _text(schema: Mapping[str, Any]) -> str:
    """Meaning, choices, default and bounds."""
    parts = [str(schema["description"]).rstrip(".") + "."] if schema.get("description") else []
    inner, _ = _inside(schema, "")
    choices = [f"`{choice}`" for choice in inner.get("enum", ())]
    if choices:
        more = f" and {len(choices) - _CHOICES_SHOWN} more" * (len(choices) > _CHOICES_SHOWN)
        parts.append(f"One of {', '.join(choices[:_CHOICES_SHOWN])}{more}.")
    if schema.get("default") not in (None, ""):
        parts.append(f"Default `{schema['default']}`.")
    bounds = [text.format(schema[name]) for name, text in _BOUNDS.items() if name in schema]
    if bounds:
        parts.append(f"{', '.join(bounds).capitalize()}.")
    return " ".join(parts)
