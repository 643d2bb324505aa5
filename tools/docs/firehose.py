"""The firehose's one route as OpenAPI; it is no FastAPI application, so it is described here.

Names come from the service's own code.
"""

from typing import Any, get_args

from services.firehose import domain

PATH = "/v1/firehose/stream"


def document() -> dict[str, Any]:
    """An OpenAPI document with the one path."""
    return {"paths": {PATH: {"get": _operation()}}}


def _operation() -> dict[str, Any]:
    return {
        "summary": "Stream",
        "operationId": "stream",
        "description": (
            "A partner's raw events, live or from any place that the log still holds, for as long "
            "as the connection stands. Every event's `id` is the cursor behind it: connect again "
            "with `Last-Event-ID` or `cursor=` and nothing is lost or repeated. Heartbeats carry a "
            "cursor too. A stream that the firehose ends says so in a last event `end` with "
            "`reason` and `cursor`; reasons: " + ", ".join(get_args(domain.Reason)) + "."
        ),
        "servers": [{"url": "http://127.0.0.1:8083", "description": "`make run`"}],
        "parameters": [*_parameters(), *_headers()],
        "responses": {
            "200": {
                "description": "The stream; framed by `Accept`, compressed by `Accept-Encoding`.",
                "content": {
                    "text/event-stream": {"schema": {"type": "string"}},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            },
            "410": {
                "description": (
                    "The place is outside retention or the topic was created anew; the body names "
                    "the oldest cursor that can be served."
                )
            },
        },
    }


def _parameters() -> list[dict[str, Any]]:
    described = {
        "types": f"Comma-separated: {', '.join(domain.EVENT_NAMES)}; all if absent.",
        "cursor": "Where to go on.",
        "since": "Begin with what was appended from then on: RFC 3339, or seconds since the epoch.",
        "start": "`earliest` or `latest` (the default).",
        "offers": "Comma-separated offer ids.",
        "events": "Comma-separated event names; for conversions.",
        "statuses": f"Comma-separated, for conversions: {', '.join(sorted(domain.STATUSES))}.",
    }
    return [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": described[name]}
        for name in domain.PARAMETERS
    ]


def _headers() -> list[dict[str, Any]]:
    text = "The id of the last event received; a browser's EventSource sends it by itself."
    return [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "schema": {"type": "string"},
            "description": text,
        }
    ]
