"""What partners may call, cut out of the whole OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from shared.routes import ROUTES, Route
from tools.docs.shapes import REFERENCE

_STREAM: Final = {
    "url": "https://{stream}",
    "description": "The stream has an address of its own; your network tells it.",
    "variables": {"stream": {"default": "stream.example.com"}},
}


def is_partners(route: Route) -> bool:
    """Whether partners' programs and their portal call this route: with a key, or as a user."""
    return route.authentication == "key" or route.template.startswith("/v1/partner/")


def document(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of partners' routes, with the shapes that these need.

    Args:
        whole: the document of the whole platform; it stays as it is.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(filter(is_partners, ROUTES), key=lambda route: route.template):
        method = route.method.lower()
        paths.setdefault(route.template, {})[method] = _ours(whole["paths"][route.template][method])
    components = whole["components"]
    schemas = {name: components["schemas"][name] for name in _needed(paths, components["schemas"])}
    info = {
        "description": (
            "What a partner of a network reads with an API key in the header `X-Eflow-API-Key`. "
            "`/v1/partner` is for the portal, with the token of one of the partner's users."
        )
    }
    return {
        "openapi": whole["openapi"],
        "info": whole["info"] | info,
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "paths": paths,
        "components": {"securitySchemes": components["securitySchemes"], "schemas": schemas},
    }


def _ours(operation: Mapping[str, Any]) -> dict[str, Any]:
    """An operation, at the address that partners see."""
    return dict(operation) | ({"servers": [_STREAM]} if "servers" in operation else {})


def _needed(paths: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    """The names of the shapes that paths lead to, sorted."""
    found: set[str] = set()
    waiting = set(references(paths))
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(references(schemas[name])) - found
    return sorted(found)


def references(value: Any) -> Iterator[str]:
    """The names of the shapes that `value` refers to."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if name == "$ref" and isinstance(member, str):
                yield member.removeprefix(REFERENCE)
            else:
                yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)
