"""Protects the log: one line a change of state, in JSON, and no flood while Kafka is away."""

import json
import logging
import sys

from shared.observability import JsonFormatter, OncePerWhile
from shared.partner_key import generate


def _record(text: str, created: float, name: str = "aiokafka.conn", **extra) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": name, "msg": text, "levelname": "ERROR"} | extra)
    record.created = created
    return record


def test_a_line_is_json_with_its_fields():
    """Event name plus fields, nothing formatted into the text."""
    line = json.loads(JsonFormatter("keys").format(_record("stopped", 0.25, reason="SIGTERM")))
    assert line["event"] == "stopped"
    assert (line["service"], line["level"], line["reason"]) == ("keys", "error", "SIGTERM")
    assert line["time"] == "1970-01-01T00:00:00.250Z"


def test_a_key_that_got_into_a_line_shows_as_its_mask():
    """Whoever put it there: in the text, a field, or what an exception says."""
    key = generate()
    try:
        int(key.reveal())
    except ValueError:
        record = _record(f"got {key.reveal()}", 0, path=f"/{key.reveal()}", exc_info=sys.exc_info())
    line = JsonFormatter("keys").format(record)
    assert key.reveal() not in line
    assert line.count(key.masked) == 3


def test_a_client_that_retries_is_heard_once_in_a_while():
    """Ten lines a second of one failure become one; another failure is heard at once."""
    passes = OncePerWhile(10).filter
    heard = [number for number in range(250) if passes(_record("no connection", number / 10))]
    assert heard == [0, 100, 200]
    assert passes(_record("no leader", 24.9))
    assert passes(_record("no connection", 24.9, name="aiokafka.client"))
