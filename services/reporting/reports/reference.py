"""What the routes over facts take and answer, for the generated OpenAPI document.

Bodies are judged in `domain.py`, not by these schemas: deployed programs send more than a strict
model would let through. Names and types come from where they are used, so they cannot drift.
"""

from typing import Any, Final

import msgspec

from services.reporting.reports.columns import COLUMNS
from services.reporting.reports.measures import RATIOS, SUMS
from services.reporting.reports.store import CLICK_FIELDS, CONVERSION_FIELDS
from shared import events

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_PAGE: Final[Schema] = {
    "type": "integer",
    "description": "`page` counts from 1; `page_size` is 50 unless given, at most 2,000.",
}
_INTERVAL: Final[Schema] = {
    "from": {
        "type": "string",
        "description": "`YYYY-MM-DD` or `YYYY-MM-DD HH:MM:SS`, wall clock in `timezone_id`.",
    },
    "to": {"type": "string", "description": "Likewise; a bare date means the whole day."},
    "timezone_id": {"type": "integer", "description": "An id of `GET /v1/meta/timezones`."},
}
_FILTER: Final[Schema] = {
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
_QUERY: Final[Schema] = {
    "type": "object",
    "properties": {
        "filters": _FILTER,
        "exclusions": _FILTER,
        "metric_filters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "metric_type": _TEXT,
                    "operator": {"enum": ["greater_than", "less_than", "equal"]},
                    "metric_value": _NUMBER,
                },
            },
        },
    },
}


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _fields(event: type[events.Event], names: tuple[str, ...], related: Schema) -> Schema:
    """The rows of an event's columns, with the types of its schema."""
    _, components = msgspec.json.schema_components([event], ref_template="{name}")
    types = components[event.__name__]["properties"]
    plain = {name: {"type": types[name].get("type", "string")} for name in names}
    return _object(plain | {"relationship": {"type": "object", **related}})


def _body(schema: Schema, example: Schema) -> Schema:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answer(schema: Schema, headers: Schema) -> dict[int | str, Schema]:
    """The 200 of a route."""
    return {
        200: {
            "description": "Complete up to `X-Data-Through`.",
            "headers": headers,
            "content": {"application/json": {"schema": schema}},
        }
    }


CLICK: Final = _fields(events.Click, CLICK_FIELDS, {"description": "Offer, place, device."})

TABLE_BODY: Final = _body(
    _object(
        _INTERVAL
        | {
            "currency_id": {"type": "string", "description": "ISO 4217."},
            "columns": {
                "type": "array",
                "minItems": 1,
                "items": _object({"column": {"enum": list(COLUMNS)}}, "column"),
            },
            "query": _QUERY,
        },
        "from",
        "to",
        "timezone_id",
        "currency_id",
        "columns",
    ),
    {
        "from": "2026-11-01",
        "to": "2026-11-07",
        "timezone_id": 67,
        "currency_id": "USD",
        "columns": [{"column": "offer"}],
        "query": {"filters": [{"resource_type": "sub1", "filter_id_value": "newsletter"}]},
    },
)
TABLE: Final = _object(
    {
        "table": {
            "type": "array",
            "items": _object(
                {
                    "columns": {
                        "type": "array",
                        "items": _object({"column_type": _TEXT, "id": _TEXT, "label": _TEXT}),
                    },
                    "reporting": _object(dict.fromkeys([*SUMS, "total_click", *RATIOS], _NUMBER)),
                }
            ),
        },
        "incomplete_results": {
            "type": "boolean",
            "description": "Whether rows beyond the first 10,000 were left out.",
        },
    },
    "table",
    "incomplete_results",
)
CONVERSIONS_BODY: Final = _body(
    _object(
        _INTERVAL
        | {
            "show_conversions": {"type": "boolean", "default": True},
            "show_events": {"type": "boolean", "default": False},
            "query": _QUERY,
            "page": _PAGE,
            "page_size": _PAGE,
        },
        "from",
        "to",
        "timezone_id",
    ),
    {
        "from": "2026-11-01",
        "to": "2026-11-07",
        "timezone_id": 67,
        "show_conversions": True,
        "show_events": True,
    },
) | {
    "parameters": [
        {"name": name, "in": "query", "schema": schema, "description": text}
        for name, schema, text in (
            ("page", {"type": "integer"}, "Wins over the body's."),
            ("page_size", {"type": "integer"}, "Wins over the body's."),
            ("cursor", _TEXT, "`paging.next_cursor` of the page before: skips and repeats no row."),
        )
    ]
}
CONVERSIONS: Final = _object(
    {
        "conversions": {
            "type": "array",
            "items": _fields(events.Conversion, CONVERSION_FIELDS, {"description": "Offer."}),
        },
        "paging": _object(
            {name: {"type": "integer"} for name in ("page", "page_size", "total_count")}
            | {"next_cursor": {"type": ["string", "null"]}},
            "page",
            "page_size",
            "total_count",
        ),
    },
    "conversions",
    "paging",
)
