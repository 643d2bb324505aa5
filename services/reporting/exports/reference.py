"""What the routes of export jobs take and answer, for the generated OpenAPI document."""

from typing import Final

from services.reporting.asking.schemas import (
    FRESH,
    INTERVAL,
    QUERY,
    TEXT,
    Schema,
    body,
    object_schema,
)
from services.reporting.exports.domain import FORMATS, KINDS

Answers = dict[int | str, Schema]

_WHOLE: Final[Schema] = {"type": "integer"}
_WHEN: Final[Schema] = {"type": ["integer", "null"]}
_YES_NO: Final[Schema] = {"type": "boolean"}

BODY: Final = body(
    object_schema(
        INTERVAL
        | {
            "kind": {"enum": list(KINDS)},
            "format": {"enum": list(FORMATS), "default": FORMATS[0]},
            "gzip": _YES_NO | {"default": True},
            "show_conversions": _YES_NO | {"default": True},
            "show_events": _YES_NO | {"default": False},
            "query": QUERY,
        },
        "kind",
        "from",
        "to",
        "timezone_id",
    ),
    {
        "kind": "clicks",
        "from": "2026-10-01",
        "to": "2026-10-31",
        "timezone_id": 67,
        "format": "ndjson",
    },
)
_EXAMPLE: Final[Schema] = {
    "export_id": "5f0c6c1d2f8e4b7c9a3d1e2f4a5b6c7d",
    "kind": "clicks",
    "from": "2026-10-01",
    "to": "2026-10-31",
    "timezone_id": 67,
    "format": "ndjson",
    "gzip": True,
    "state": "done",
    "reason": "",
    "progress": {"percent": 100, "rows": 81_250},
    "size": 9_120_411,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created_unix_timestamp": 1_793_600_000,
    "finished_unix_timestamp": 1_793_600_042,
    "expires_unix_timestamp": 1_794_204_842,
    "download": "/v1/affiliates/reporting/exports/5f0c6c1d2f8e4b7c9a3d1e2f4a5b6c7d/download",
}
_JOB: Final = object_schema(
    INTERVAL
    | {
        "export_id": TEXT,
        "kind": {"enum": list(KINDS)},
        "format": {"enum": list(FORMATS)},
        "gzip": _YES_NO,
        "state": {"enum": ["queued", "running", "done", "failed"]},
        "reason": TEXT | {"description": "Why it failed."},
        "progress": object_schema({"percent": _WHOLE, "rows": _WHOLE}),
        "size": _WHOLE | {"description": "Bytes of the file; 0 until it is done."},
        "sha256": TEXT | {"description": "Of the file, in hex; empty until it is done."},
        "created_unix_timestamp": _WHOLE,
        "finished_unix_timestamp": _WHEN,
        "expires_unix_timestamp": _WHEN | {"description": "When the file is removed."},
        "download": TEXT | {"description": "Where the file is; empty until it is done."},
    }
)


def _json(description: str, schema: Schema, example: Schema) -> Schema:
    return {
        "description": description,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def created(status: int) -> Answers:
    """The answer to a new job."""
    return {status: _json("It will be made; `Location` is the job.", _JOB, _EXAMPLE)}


ONE: Final[Answers] = {200: _json("The job.", _JOB, _EXAMPLE)}
LIST: Final[Answers] = {
    200: _json(
        "The jobs.",
        object_schema({"exports": {"type": "array", "items": _JOB}}, "exports"),
        {"exports": [_EXAMPLE]},
    )
}
_FILE: Final[Schema] = {
    "headers": FRESH | {"ETag": {"description": "The SHA-256 of the file.", "schema": TEXT}},
    "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
}
DOWNLOAD: Final[Answers] = {
    200: {"description": "The whole file."} | _FILE,
    206: {"description": "The range that was asked for."} | _FILE,
    409: {"description": "The export is not done."},
    416: {"description": "Nothing of the file is in the range."},
}
