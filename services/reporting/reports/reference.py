"""What the routes of reports take and answer, for the generated OpenAPI document."""

from typing import Final

from services.reporting.asking.schemas import INTERVAL, NUMBER, QUERY, TEXT, body, object_schema
from services.reporting.facts.columns import COLUMNS
from services.reporting.reports.measures import RATIOS, SUMS

TABLE_BODY: Final = body(
    object_schema(
        INTERVAL
        | {
            "currency_id": {"type": "string", "description": "ISO 4217."},
            "columns": {
                "type": "array",
                "minItems": 1,
                "items": object_schema({"column": {"enum": list(COLUMNS)}}, "column"),
            },
            "query": QUERY,
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
TABLE: Final = object_schema(
    {
        "table": {
            "type": "array",
            "items": object_schema(
                {
                    "columns": {
                        "type": "array",
                        "items": object_schema({"column_type": TEXT, "id": TEXT, "label": TEXT}),
                    },
                    "reporting": object_schema(
                        dict.fromkeys([*SUMS, "total_click", *RATIOS], NUMBER)
                    ),
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
