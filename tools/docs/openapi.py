"""The REST routes of the whole platform as OpenAPI 3.1, from the services' own applications.

Every row of `shared.routes` must be served by the application of its service, and no application
may serve another; the generator stops otherwise. Authentication and the errors that the doors
answer are added from the row.
"""

from typing import Any

from fastapi import FastAPI

from shared.errors import SetupError
from shared.routes import ROUTES, Route
from tools.docs import firehose

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
    for described in [*(app.openapi() for app in apps), firehose.document()]:
        paths |= _merged(paths, described["paths"])
        schemas |= described.get("components", {}).get("schemas", {})
    _refuse_differences(paths)
    for route in ROUTES:
        _complete(paths[route.template][route.method.lower()], route)
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
            "schemas": dict(sorted((schemas | {"Error": _error_schema()}).items())),
        },
    }


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
    for status, text in ERRORS.items():
        responses.setdefault(
            status,
            {
                "description": text,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        )


def _error_schema() -> dict[str, Any]:
    text = {"type": "string", "description": "What was wrong."}
    return {
        "type": "object",
        "description": "The same text under the three names that deployed clients read.",
        "required": ["Error", "error", "message"],
        "properties": {"Error": text, "error": text, "message": text},
        "example": dict.fromkeys(("Error", "error", "message"), "Out of realm"),
    }
