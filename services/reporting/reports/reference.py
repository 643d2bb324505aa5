"""What the routes of reports take and answer, for the generated OpenAPI document.

Each has an example, of one partner and one week.
"""

from typing import Any, Final

from services.reporting.asking.schemas import (
    FRESH,
    INTERVAL,
    NUMBER,
    QUERY,
    TEXT,
    Schema,
    body,
    object_schema,
)
from services.reporting.facts.columns import COLUMNS
from services.reporting.reports.dashboard import AMOUNT_CARDS, PERIODS, RATIO_CARDS
from services.reporting.reports.measures import DAILY as DAILY_METRICS
from services.reporting.reports.measures import METRICS

# --- examples -------------------------------------------------------------------------------------

_METRICS: Final[Schema] = dict.fromkeys(METRICS, 0) | {
    "total_click": 46,
    "unique_click": 40,
    "duplicate_click": 6,
    "cv": 5,
    "cvr": 10.87,
    "revenue": 129.98,
    "rpc": 2.83,
}
_INTERVAL: Final[Schema] = {"from": "2026-11-01", "to": "2026-11-07", "timezone_id": 67}
_ASKED: Final[Schema] = _INTERVAL | {
    "currency_id": "USD",
    "columns": [{"column": "offer"}],
    "query": {"filters": [{"resource_type": "sub1", "filter_id_value": "newsletter"}]},
}
_ROW: Final[Schema] = {
    "columns": [{"column_type": "offer", "id": "70", "label": "Shoes"}],
    "reporting": _METRICS,
}
TABLE_EXAMPLE: Final[Schema] = {"table": [_ROW], "incomplete_results": False}
ENTITY_EXAMPLE: Final[Schema] = TABLE_EXAMPLE | {
    "summary": _METRICS,
    "performance": [{"unix": 1793491200, "reporting": _METRICS}],
}
DAILY_EXAMPLE: Final[Schema] = {
    "table": [
        {"date": "2026-11-01", "reporting": {name: _METRICS[name] for name in DAILY_METRICS}}
    ],
    "summary": _METRICS,
    "incomplete_results": False,
}
_CSV_EXAMPLE: Final = (
    f"network_offer_id,offer_name,{','.join(METRICS)}\r\n"
    f'"70","Shoes",{",".join(str(_METRICS[name]) for name in METRICS)}\r\n'
)

_CARD: Final[Schema] = {
    "today": 12,
    "yesterday": 46,
    "current_month": 310,
    "last_month": 1204,
    "trending_percentage": -28.6,
}
CARDS_EXAMPLE: Final[Schema] = dict.fromkeys(AMOUNT_CARDS, _CARD) | dict.fromkeys(
    RATIO_CARDS, dict.fromkeys(PERIODS, 10.87)
)
_SERIES_EXAMPLE: Final = [{"unix": 1793491200, "reporting": _METRICS}]
PERFORMANCE_EXAMPLE: Final[Schema] = {"performance": _SERIES_EXAMPLE, "summary": _METRICS}
_OFFER_EXAMPLE: Final[Schema] = {
    "network_offer_id": 70,
    "name": "Shoes",
    "reporting": _METRICS,
    "yesterday": _METRICS,
    "trending_percentage": 0,
}
TRENDING_EXAMPLE: Final[Schema] = {"offers": [_OFFER_EXAMPLE], "incomplete_results": False}
TRENDING_OFFER_EXAMPLE: Final[Schema] = _OFFER_EXAMPLE | {"performance": _SERIES_EXAMPLE}

# --- bodies ---------------------------------------------------------------------------------------

_CURRENCY: Final[Schema] = {
    "currency_id": {
        "type": "string",
        "description": "ISO 4217. Amounts in others are converted by the rate of their day.",
    }
}
_PIVOT: Final[Schema] = (
    INTERVAL
    | _CURRENCY
    | {
        "columns": {
            "type": "array",
            "minItems": 1,
            "description": "At most one of `hour`, `date`, `week`, `month` and `year`.",
            "items": object_schema({"column": {"enum": list(COLUMNS)}}, "column"),
        },
        "query": QUERY,
    }
)
_NEEDED: Final = ("from", "to", "timezone_id")
_FORMAT: Final[Schema] = {"format": {"enum": ["csv", "json"], "default": "csv"}}

TABLE_BODY: Final = body(object_schema(_PIVOT, *_NEEDED, "currency_id", "columns"), _ASKED)
EXPORT_BODY: Final = body(
    object_schema(_PIVOT | _FORMAT, *_NEEDED, "currency_id", "columns"), _ASKED | {"format": "csv"}
)
FIXED_BODY: Final = body(
    object_schema(INTERVAL | _CURRENCY | {"query": QUERY}, *_NEEDED),
    _INTERVAL | {"currency_id": "USD"},
)

_DASHBOARD: Final[Schema] = {"timezone_id": INTERVAL["timezone_id"]} | _CURRENCY
_DASHBOARD_EXAMPLE: Final[Schema] = {"timezone_id": 80, "currency_id": "USD"}
DASHBOARD_BODY: Final = body(object_schema(_DASHBOARD, "timezone_id"), _DASHBOARD_EXAMPLE)
CHART_BODY: Final = body(
    object_schema(INTERVAL | _CURRENCY, "timezone_id"), _INTERVAL | {"currency_id": "USD"}
)

# --- answers --------------------------------------------------------------------------------------

REPORTING: Final = object_schema(dict.fromkeys(METRICS, NUMBER))
_CUT: Final[Schema] = {
    "incomplete_results": {
        "type": "boolean",
        "description": "Whether rows beyond the first 10,000 were left out.",
    }
}
_ROWS: Final[Schema] = {
    "table": {
        "type": "array",
        "items": object_schema(
            {
                "columns": {
                    "type": "array",
                    "items": object_schema({"column_type": TEXT, "id": TEXT, "label": TEXT}),
                },
                "reporting": REPORTING,
            }
        ),
    }
}
SERIES: Final[Schema] = {
    "type": "array",
    "items": object_schema({"unix": {"type": "integer"}, "reporting": REPORTING}),
}
TABLE: Final = object_schema(_ROWS | _CUT, "table", "incomplete_results")
OFFER_TABLE: Final = object_schema(
    _ROWS
    | _CUT
    | {
        "paging": object_schema(
            {name: {"type": "integer"} for name in ("page", "page_size", "total_count")}
        )
    },
    "table",
    "incomplete_results",
)
ENTITY: Final = object_schema(
    _ROWS | _CUT | {"summary": REPORTING, "performance": SERIES},
    *("table", "incomplete_results", "summary", "performance"),
)
DAILY_REPORTING: Final = object_schema(dict.fromkeys(DAILY_METRICS, NUMBER))
DAILY: Final = object_schema(
    {
        "table": {
            "type": "array",
            "items": object_schema({"date": TEXT, "reporting": DAILY_REPORTING}),
        },
        "summary": REPORTING,
    }
    | _CUT,
    "table",
    "summary",
)


def _file(content: Schema) -> dict[int | str, dict[str, Any]]:
    cut = {"description": "Whether rows beyond the first 10,000 were left out.", "schema": TEXT}
    return {
        200: {
            "description": "Complete up to `X-Data-Through`.",
            "headers": FRESH | {"x-incomplete-results": cut},
            "content": content,
        }
    }


_JSON: Final[Schema] = {"application/json": {"schema": TABLE, "example": TABLE_EXAMPLE}}
STREAM: Final = _file(_JSON)
EXPORT: Final = _file({"text/csv": {"schema": TEXT, "example": _CSV_EXAMPLE}} | _JSON)

# --- dashboards -----------------------------------------------------------------------------------

_AMOUNTS_CARD: Final = object_schema(dict.fromkeys((*PERIODS, "trending_percentage"), NUMBER))
_RATIOS_CARD: Final = object_schema(dict.fromkeys(PERIODS, NUMBER))
CARDS: Final = object_schema(
    dict.fromkeys(AMOUNT_CARDS, _AMOUNTS_CARD) | dict.fromkeys(RATIO_CARDS, _RATIOS_CARD)
)
PERFORMANCE: Final = object_schema({"performance": SERIES, "summary": REPORTING})
_OFFER: Final[Schema] = {
    "network_offer_id": {"type": "integer"},
    "name": TEXT,
    "reporting": REPORTING,
    "yesterday": REPORTING,
    "trending_percentage": NUMBER,
}
TRENDING: Final = object_schema(
    {"offers": {"type": "array", "items": object_schema(_OFFER)}} | _CUT
)
TRENDING_OFFER: Final = object_schema(_OFFER | {"performance": SERIES})
