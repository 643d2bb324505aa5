"""What the change feed takes and answers, for the generated OpenAPI document."""

from typing import Final, get_args

from services.reporting.asking.schemas import (
    CONVERSION_ROW,
    TEXT,
    Schema,
    answer,
    object_schema,
)
from services.reporting.changes.domain import LIMIT_DEFAULT, LIMIT_MAX, Kind

_WHOLE: Final[Schema] = {"type": "integer"}
_YES_NO: Final[Schema] = {"type": "boolean"}

PARAMETERS: Final[Schema] = {
    "parameters": [
        {
            "name": "cursor",
            "in": "query",
            "schema": TEXT,
            "description": "`paging.next_cursor` of the answer before; none for the beginning.",
        },
        {
            "name": "limit",
            "in": "query",
            "schema": _WHOLE | {"default": LIMIT_DEFAULT, "maximum": LIMIT_MAX},
            "description": "Records read at most; fewer changes may be told.",
        },
    ]
}
_HOLD: Final[Schema] = {
    "type": ["object", "null"],
    "description": "Its time on hold, if it has had one.",
    "properties": {
        "on_hold_conversion_id": TEXT,
        "holding_period_end": _WHOLE,
        "status": {"enum": ["on_hold", "approved", "rejected"]},
    },
}
_CHANGE: Final = object_schema(
    {
        "conversion_id": TEXT,
        "version": _WHOLE | {"description": "Grows with each change of the conversion."},
        "kind": {
            "enum": list(get_args(Kind)),
            "description": (
                "`new`: its first version. `changed`: a higher one. `superseded`: an older one that"
                " came late; keep what you have."
            ),
        },
        "changed": {
            "type": "array",
            "items": {"enum": ["status", "amount", "hold", "scrub"]},
            "description": "What differs from the version before; empty if it is something else.",
        },
        "status": {"enum": ["approved", "pending", "rejected", "invalid", "on_hold"]},
        "is_scrub": _YES_NO,
        "is_counted": _YES_NO | {"description": "Whether `/reporting/conversions` shows it now."},
        "hold": _HOLD,
        "unix_timestamp": _WHOLE | {"description": "When the change reached the log."},
        "conversion": CONVERSION_ROW,
    }
)
CHANGES: Final = object_schema(
    {
        "changes": {"type": "array", "items": _CHANGE},
        "paging": object_schema(
            {
                "next_cursor": TEXT | {"description": "Always there: go on with it, now or later."},
                "has_more": _YES_NO | {"description": "Whether more is waiting already."},
            },
            "next_cursor",
            "has_more",
        ),
    },
    "changes",
    "paging",
)
_EXAMPLE: Final[Schema] = {
    "changes": [
        {
            "conversion_id": "0c7a4d3a1b2e4f5d8c9b7a6e5d4c3b2a",
            "version": 2,
            "kind": "changed",
            "changed": ["status"],
            "status": "rejected",
            "is_scrub": False,
            "is_counted": False,
            "hold": None,
            "unix_timestamp": 1_793_600_000,
            "conversion": {
                "conversion_id": "0c7a4d3a1b2e4f5d8c9b7a6e5d4c3b2a",
                "conversion_unix_timestamp": 1_793_500_000,
                "revenue": 25.996,
            },
        }
    ],
    "paging": {"next_cursor": "AgAAAAAAAAABAAAAAAAAAAo", "has_more": False},
}
_GONE: Final = object_schema(
    {"Error": TEXT, "error": TEXT, "message": TEXT, "oldest": TEXT}, "error", "oldest"
)
ANSWERS: Final[dict[int | str, Schema]] = answer(CHANGES | {"example": _EXAMPLE}) | {
    410: {
        "description": (
            "What follows the cursor is not kept any more; the text says how many days are."
            " `oldest` is a cursor to go on with."
        ),
        "content": {"application/json": {"schema": _GONE}},
    }
}
