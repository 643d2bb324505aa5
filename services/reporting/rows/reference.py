"""What the routes of raw rows take and answer, for the generated OpenAPI document."""

from typing import Final

from services.reporting.asking.schemas import (
    CONVERSION_ROW,
    INTERVAL,
    QUERY,
    TEXT,
    Schema,
    body,
    object_schema,
)

_PAGE: Final[Schema] = {
    "type": "integer",
    "description": "`page` counts from 1; `page_size` is 50 unless given, at most 2,000.",
}


CONVERSIONS_BODY: Final = body(
    object_schema(
        INTERVAL
        | {
            "show_conversions": {"type": "boolean", "default": True},
            "show_events": {"type": "boolean", "default": False},
            "query": QUERY,
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
            ("cursor", TEXT, "`paging.next_cursor` of the page before: skips and repeats no row."),
        )
    ]
}
CONVERSIONS: Final = object_schema(
    {
        "conversions": {
            "type": "array",
            "items": CONVERSION_ROW,
        },
        "paging": object_schema(
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
