"""What every route over facts takes and answers alike, for the generated OpenAPI document.

Bodies are judged where they are read, not by these schemas: deployed programs send more than a
strict model would let through. Names and types come from where they are used, so they cannot drift.
"""

from typing import Any, Final

import msgspec

from services.reporting.facts.columns import COLUMNS
from services.reporting.facts.shapes import CLICK_FIELDS, CONVERSION_FIELDS
from services.reporting.freshness import HEADER
from shared import events

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "number"}
INTERVAL: Final[Schema] = {
    "from": {
        "type": "string",
        "description": "`YYYY-MM-DD` or `YYYY-MM-DD HH:MM:SS`, wall clock in `timezone_id`.",
    },
    "to": {"type": "string", "description": "Likewise; a bare date means the whole day."},
    "timezone_id": {"type": "integer", "description": "An id of `GET /v1/meta/timezones`."},
}
FILTER: Final[Schema] = {
    "type": "array",
    "description": "Values of one type are alternatives; all types must match.",
    "items": {
        "type": "object",
        "required": ["resource_type", "filter_id_value"],
        "properties": {
            "resource_type": {"enum": [*COLUMNS, "status", "transaction_id"]},
            "filter_id_value": {"type": ["string", "integer"]},
        },
    },
}
QUERY: Final[Schema] = {
    "type": "object",
    "properties": {
        "filters": FILTER,
        "exclusions": FILTER,
        "metric_filters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "metric_type": TEXT,
                    "operator": {"enum": ["greater_than", "less_than", "equal"]},
                    "metric_value": NUMBER,
                },
            },
        },
    },
}
FRESH: Final[Schema] = {HEADER: {"description": "Complete up to here.", "schema": TEXT}}


def object_schema(properties: Schema, *required: str) -> Schema:
    """The schema of an object."""
    return {"type": "object", "properties": properties, "required": list(required)}


def body(schema: Schema, example: Schema) -> Schema:
    """The request body of a route."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answer(schema: Schema, example: Schema | None = None) -> dict[int | str, Schema]:
    """The 200 of a route."""
    shown = {} if example is None else {"example": example}
    return {
        200: {
            "description": "Complete up to `X-Data-Through`.",
            "headers": FRESH,
            "content": {"application/json": {"schema": schema} | shown},
        }
    }


def _row(event: type[events.Event], names: tuple[str, ...], related: str) -> Schema:
    """The rows of an event's columns, with the types of its schema."""
    _, components = msgspec.json.schema_components([event], ref_template="{name}")
    types = components[event.__name__]["properties"]
    plain = {name: {"type": types[name].get("type", "string")} for name in names}
    return object_schema(plain | {"relationship": {"type": "object", "description": related}})


CLICK_ROW: Final = _row(events.Click, CLICK_FIELDS, "Offer, place, device.")
CONVERSION_ROW: Final = _row(events.Conversion, CONVERSION_FIELDS, "Offer.")
