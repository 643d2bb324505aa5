"""Protects the published REST document: whoever reads an operation can call it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from shared.errors import SetupError
from shared.routes import ROUTES
from tests import published
from tools.docs import openapi
from tools.docs.examples import example_of

DOCUMENT = published.openapi()
OPERATIONS = [
    pytest.param(
        DOCUMENT["paths"][route.template][route.method.lower()],
        id=f"{route.method} {route.template}",
    )
    for route in ROUTES
    if openapi.EXAMPLED.match(route.template)
]
DOORS = {"400", "401", "403", "429", "500", "502", "503", "504"}
"""What the gateway or the service may answer to any request."""


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every described body: of the request, then of each answer."""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"request {kind}", content
    for status, response in operation["responses"].items():
        for kind, content in response.get("content", {}).items():
            yield f"{status} {kind}", content


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_told_in_words(operation: dict[str, Any]):
    """A summary, a description, and a meaning for each parameter and answer."""
    assert operation["summary"]
    assert len(operation["description"]) > 20
    for parameter in operation.get("parameters", []):
        assert parameter.get("description"), parameter["name"]
    for status, response in operation["responses"].items():
        assert response["description"] not in ("", "Successful Response"), status


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_error_that_can_come_is_listed(operation: dict[str, Any]):
    """Those of the doors, and that nothing of that name is there."""
    assert operation["responses"].keys() >= DOORS | {"404"}
    errors = [status for status in operation["responses"] if status >= "400"]
    texts = [operation["responses"][status]["description"] for status in errors]
    assert len(set(texts)) == len(texts), "two errors mean the same"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_json_body_has_an_example_that_is_one(operation: dict[str, Any]):
    """An example that the schema itself refuses would be copied all the same."""
    for place, content in bodies(operation):
        if "text/" not in place:
            assert "example" in content, place
            schema = content["schema"] | {"components": DOCUMENT["components"]}
            problems = jsonschema_rs.validator_for(schema).iter_errors(content["example"])
            assert [problem.message for problem in problems] == [], place


def test_a_member_without_an_example_stops_the_generator():
    """So that no operation is published that nobody could write a request by."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    with pytest.raises(SetupError, match=r"PUT /here: body\.name: give it an example"):
        example_of(schema, {}, "PUT /here: body")


def test_an_example_is_put_together_from_its_members():
    """By reference, through lists, by default, and by the first of several kinds."""
    schemas = {"Row": {"type": "object", "properties": {"id": {"examples": [7]}}}}
    schema = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}},
            "limit": {"type": "integer", "default": 100},
            "until": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "status": {"enum": ["active", "revoked"]},
        },
    }
    assert example_of(schema, schemas, "") == {
        "rows": [{"id": 7}],
        "limit": 100,
        "until": False,
        "status": "active",
    }


def test_shapes_of_one_name_are_told_apart():
    """Two services may each have a page; the document must not show one as the other's."""
    documents = openapi.named_apart([_app("one", int), _app("two", str)])
    for title, kind in (("One", "integer"), ("Two", "string")):
        described = documents[title == "Two"]
        assert (
            described["components"]["schemas"][f"{title}Page"]["properties"]["at"]["type"] == kind
        )
        answer = described["paths"]["/page"]["get"]["responses"]["200"]["content"]
        assert answer["application/json"]["schema"]["$ref"].endswith(f"/{title}Page")


def _app(title: str, kind: type) -> FastAPI:
    app = FastAPI(title=title)

    class Page(BaseModel):
        at: kind = Field()  # type: ignore[valid-type]

    @app.get("/page", response_model=Page)
    def page() -> None:
        """A page."""

    return app


def test_no_shape_is_another_services():
    """Every reference leads to a shape that the document has."""
    text = str(DOCUMENT)
    names = set(DOCUMENT["components"]["schemas"])
    referred = {part.partition("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= names
    assert names - referred <= {"Error"}, "a shape that nothing uses"
