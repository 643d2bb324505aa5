"""What the routes of raw rows take and answer, for the generated OpenAPI document."""

from typing import Any, Final

from services.reporting.asking.schemas import (
    CLICK_ROW,
    CONVERSION_ROW,
    FRESH,
    INTERVAL,
    QUERY,
    TEXT,
    Schema,
    body,
    object_schema,
)
from services.reporting.facts.shapes import HELD_FIELDS
from services.reporting.rows.domain import (
    EXPORTS,
    FORMATS,
    HOLD_STATUSES,
    ORDER_FIELD,
    STREAM_ROWS_MAX,
    TRUNCATED,
)

_PAGE: Final[Schema] = {
    "type": "integer",
    "description": "`page` counts from 1; `page_size` is 50 unless given, at most 2,000.",
}


_EXAMPLE: Final[dict[str, Any]] = {"from": "2026-11-01", "to": "2026-11-07", "timezone_id": 67}
_YES_NO: Final[Schema] = {"type": "boolean"}
_KINDS: Final[Schema] = {
    "show_conversions": _YES_NO | {"default": True, "description": "Base conversions."},
    "show_events": _YES_NO | {"default": False, "description": "Additional events."},
    "show_only_vt": _YES_NO | {"description": "Only those that an impression led to."},
    "show_only_ct": _YES_NO | {"description": "Only those that a click led to."},
    "show_only_fail_traffic": _YES_NO | {"description": "Only those of redirected traffic."},
    "show_only_scrub": _YES_NO | {"description": "Partners see none of these: no row."},
}
_PAGED: Final[Schema] = {"page": _PAGE, "page_size": _PAGE}
_PARAMETERS: Final[Schema] = {
    "parameters": [
        {"name": name, "in": "query", "schema": schema, "description": text}
        for name, schema, text in (
            ("page", {"type": "integer"}, "Wins over the body's."),
            ("page_size", {"type": "integer"}, "Wins over the body's."),
            ("cursor", TEXT, "`paging.next_cursor` of the page before: skips and repeats no row."),
            ("order_field", {"enum": [ORDER_FIELD]}, "What rows are ordered by, then by id."),
            ("order_direction", {"enum": ["asc", "desc"]}, "`asc` unless given."),
        )
    ]
}


def _asked(members: Schema, **example: Any) -> Schema:
    schema = object_schema(INTERVAL | {"query": QUERY} | members, "from", "to", "timezone_id")
    return body(schema, _EXAMPLE | example)


def _page(rows: Schema) -> Schema:
    numbers: Schema = {name: {"type": "integer"} for name in ("page", "page_size", "total_count")}
    return object_schema(
        {
            "conversions": {"type": "array", "items": rows},
            "paging": object_schema(numbers | {"next_cursor": TEXT}, *numbers),
        },
        "conversions",
        "paging",
    )


CONVERSIONS_BODY: Final = (
    _asked(_KINDS | _PAGED, show_conversions=True, show_events=True) | _PARAMETERS
)
EVENTS_BODY: Final = _asked(_PAGED) | _PARAMETERS
CONVERSIONS: Final = _page(CONVERSION_ROW)

HELD_ROW: Final = object_schema(
    {
        "on_hold_conversion_id": TEXT,
        "network_id": {"type": "integer"},
        "holding_period_end": {"type": "integer"},
        "status": {"enum": list(HOLD_STATUSES)},
        "conversion": object_schema(
            {name: CONVERSION_ROW["properties"][name] for name in (*HELD_FIELDS, "relationship")}
        ),
    }
)
HELD_BODY: Final = (
    _asked(
        _KINDS
        | _PAGED
        | {
            "show_conversions": _YES_NO | {"default": False},
            "on_hold_status_filter": {"enum": ["", *HOLD_STATUSES]},
        },
        show_conversions=True,
        on_hold_status_filter="on_hold",
    )
    | _PARAMETERS
)
HELD: Final = _page(HELD_ROW)

EXPORT_BODY: Final = _asked(
    _KINDS | {"format": {"enum": list(FORMATS), "default": "csv"}}, format="csv"
)
EXPORT: Final[dict[int | str, Schema]] = {
    200: {
        "description": "All rows that match, by UTC day and id.",
        "headers": FRESH,
        "content": {
            "text/csv": {"schema": TEXT},
            "application/json": {
                "schema": object_schema({"conversions": {"type": "array", "items": CONVERSION_ROW}})
            },
        },
    }
}

CLICKS_BODY: Final = _asked({}, **{"from": "2026-11-01 00:00:00", "to": "2026-11-07 12:00:00"})
CLICKS: Final[dict[int | str, Schema]] = {
    200: {
        "description": "The newest clicks, newest first.",
        "headers": FRESH
        | {
            TRUNCATED: {
                "description": (
                    f"Only where more than {STREAM_ROWS_MAX} clicks match: how many rows are here,"
                    " how many there are, and where the others can be had."
                ),
                "schema": TEXT,
                "example": f'rows={STREAM_ROWS_MAX}, total=81250, exports="{EXPORTS}"',
            }
        },
        "content": {
            "application/json": {
                "schema": object_schema(
                    {
                        "clicks": {"type": "array", "items": CLICK_ROW},
                        "table": {"type": "array", "description": "The same rows once more."},
                        "incomplete_results": _YES_NO,
                    },
                    "clicks",
                    "table",
                    "incomplete_results",
                )
            }
        },
    }
}
