"""The REST routes of the whole platform as OpenAPI 3.1, from the services' own applications.

Every row of `shared.routes` must be served by the application of its service, and no application
may serve another; the generator stops otherwise. Authentication and the errors that the doors
answer are added from the row. Shapes of one name that differ between services get the service's
name in front. Bodies of the paths that `EXAMPLED` matches have a whole example each.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI

from shared.errors import SetupError
from shared.routes import ROUTES, Route
from tools.docs import firehose
from tools.docs.examples import example_of

EXAMPLED: Final = re.compile(
    r"/v1/(networks|partner|shares|meta|affiliates/(?!reporting|dashboard))"
)
"""Paths whose every request and answer has an example; a member without one stops us."""
ERRORS = {
    "400": "Invalid parameters; the text says which.",
    "401": "No key or token (`No Authentication Method Found`), or an unknown one.",
    "403": "Out of realm, outside the allowlist, or a permission is missing (`Forbidden`).",
    "404": "No such path, or nothing of that id within reach of the caller.",
    "429": "The network's budget is spent; `Retry-After` says for how many seconds.",
    "500": "A fault of ours; the answer carries `X-Request-Id`.",
    "502": "The service behind the gateway broke off.",
    "503": "Temporarily unavailable; `Retry-After` says for how many seconds.",
    "504": "The service behind the gateway did not answer in time.",
}
UNUSED: Final = frozenset({"HTTPValidationError", "ValidationError"})
"""Shapes of FastAPI's own refusals, which our applications answer in the wire form."""
TEXTS: Final = {
    "400": "Invalid parameters. integration: Field required",
    "401": "Unable to authenticate request",
    "403": "Forbidden",
    "404": "Not Found",
    "409": "The key is revoked; only an active key allows this.",
    "429": "Too many requests.",
    "500": "Internal error",
    "502": "Bad Gateway",
    "503": "Temporarily unavailable.",
    "504": "Gateway Timeout",
}
"""What an answer of each error may read, for its example."""
SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "key": [{"partnerKey": []}],
    "jwt": [{"token": []}],
    "none": [],
}


def document(apps: list[FastAPI]) -> dict[str, Any]:
    """The OpenAPI document of `apps` and the firehose.

    Raises:
        SetupError: a route is served that the table does not have, or the other way round.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for described in [*named_apart(apps), firehose.document()]:
        paths |= _merged(paths, described["paths"])
        schemas |= described.get("components", {}).get("schemas", {})
    _refuse_differences(paths)
    for route in ROUTES:
        _complete(paths[route.template][route.method.lower()], route)
    schemas = {name: schema for name, schema in schemas.items() if name not in UNUSED}
    schemas |= {"Error": _error_schema()}
    for route in ROUTES:
        if EXAMPLED.match(route.template):
            _exemplify(paths[route.template][route.method.lower()], schemas, route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Portico",
            "version": "1",
            "description": (
                "Partners' access to their own data. Paths under `/v1/affiliates` and `/v1/meta` "
                "take a partner key; paths under `/v1/networks` and `/v1/audit` take a token of "
                "the network's staff, `/v1/partner` that of a partner's user; `/v1/shares` is for "
                "whoever was sent a link; `/v1/firehose` is served by the firehose at a door of "
                "its own."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "`make run`"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "partnerKey": {"type": "apiKey", "in": "header", "name": "X-Eflow-API-Key"},
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "schemas": dict(sorted(schemas.items())),
        },
    }


def named_apart(apps: Sequence[FastAPI]) -> list[dict[str, Any]]:
    """The documents of `apps`, in which no name means two shapes."""
    documents = {app.title: app.openapi() for app in apps}
    meanings: dict[str, list[Any]] = defaultdict(list)
    for described in documents.values():
        for name, schema in described["components"]["schemas"].items():
            if schema not in meanings[name]:
                meanings[name].append(schema)
    shared = [name for name, schemas in meanings.items() if len(schemas) > 1]
    return [_renamed(described, shared, title) for title, described in documents.items()]


def _renamed(described: dict[str, Any], names: Sequence[str], title: str) -> dict[str, Any]:
    schemas = described["components"]["schemas"]
    for name in [name for name in names if name in schemas]:
        schemas[f"{title.capitalize()}{name}"] = schemas.pop(name)
    text = json.dumps(described)
    for name in names:
        text = text.replace(f'schemas/{name}"', f'schemas/{title.capitalize()}{name}"')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def _merged(paths: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {path: paths.get(path, {}) | operations for path, operations in more.items()}


def _refuse_differences(paths: dict[str, Any]) -> None:
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    listed = {(route.method, route.template) for route in ROUTES}
    if served != listed:
        raise SetupError(
            f"shared/routes.py and the services differ: served but not listed "
            f"{sorted(served - listed)}, listed but not served {sorted(listed - served)}."
        )


def _complete(operation: dict[str, Any], route: Route) -> None:
    operation["tags"] = [route.service]
    operation["security"] = SECURITY[route.authentication]
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)  # a wrong request is answered 400, in the wire form
    for response in responses.values():
        if response["description"] == "Successful Response":
            response["description"] = operation.get("description", operation["summary"])
    for status, text in ERRORS.items():
        responses.setdefault(
            status,
            {
                "description": text,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        )


def _exemplify(operation: dict[str, Any], schemas: dict[str, Any], route: Route) -> None:
    """Give each JSON body of an operation an example."""
    place = f"{route.method} {route.template}"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content.setdefault("example", example_of(content["schema"], schemas, f"{place}: body"))
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get("application/json")
        if content is None or "example" in content:
            continue
        if status in TEXTS:
            content["example"] = dict.fromkeys(("Error", "error", "message"), TEXTS[status])
            continue
        example = example_of(content["schema"], schemas, f"{place}: {status}")
        if "propagated" in example:
            example["propagated"] = status != "202"
        content["example"] = example


def _error_schema() -> dict[str, Any]:
    text = {"type": "string", "description": "What was wrong."}
    return {
        "type": "object",
        "description": "The same text under the three names that deployed clients read.",
        "required": ["Error", "error", "message"],
        "properties": {"Error": text, "error": text, "message": text},
        "example": dict.fromkeys(("Error", "error", "message"), "Out of realm"),
    }
