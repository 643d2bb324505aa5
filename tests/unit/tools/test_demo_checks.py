"""The demo's comparisons can fail: each finds the one thing that was made wrong."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from shared.clock import ManualClock
from tools.demo import access, reports, streams
from tools.demo.record import Record, StepError

TRUTH = {
    "impressions": 5,
    "clicks": 3,
    "unique_clicks": 2,
    "duplicate_clicks": 1,
    "invalid_clicks": 1,
    "revenue": "12.345678",
    "revenue_by_status": {"approved": "12.345678", "on_hold": "1.5"},
    "conversions": {
        "approved": {"base": 2, "event": 1, "view_through": 0},
        "on_hold": {"base": 1, "event": 0, "view_through": 0},
    },
}
SHOWN = {
    "imp": 5,
    "total_click": 3,
    "unique_click": 2,
    "duplicate_click": 1,
    "invalid_click": 1,
    "revenue": Decimal("12.345678"),
    "cv": 2,
    "event": 1,
    "view_through_cv": 0,
    "on_hold_conversion_count": 1,
    "on_hold_potential_revenue": Decimal("1.5"),
}


@pytest.mark.parametrize("metric", sorted(SHOWN))
def test_a_metric_that_differs_by_the_least_is_found(metric: str) -> None:
    """Equal means equal: a millionth too much, or a missing member, fails the step."""
    reports._same(SHOWN, TRUTH, "all")
    with pytest.raises(StepError, match=metric):
        reports._same(SHOWN | {metric: SHOWN[metric] + Decimal("0.000001")}, TRUTH, "all")
    with pytest.raises(StepError, match=metric):
        reports._same({name: SHOWN[name] for name in SHOWN if name != metric}, TRUTH, "all")


def test_only_the_highest_version_of_a_conversion_counts() -> None:
    """Whatever the order in which its versions were sent."""
    rows = [
        {"kind": "conversions", "id": "a", "version": 2, "status": "rejected"},
        {"kind": "conversions", "id": "a", "version": 1, "status": "approved"},
        {"kind": "conversions", "id": "b", "version": 1, "status": "pending"},
        {"kind": "conversions", "id": "b", "version": 2, "status": "approved"},
        {"kind": "clicks", "id": "c", "version": 1, "status": ""},
    ]
    assert [row["id"] for row in reports._current(rows)] == ["b"]


def _read(rows: list[tuple[str, int]], cursors: list[str]) -> tuple[Any, streams._Reader, list]:
    sent = [{"kind": "clicks", "id": f"{n}", "version": 1} for n in range(4)]
    stage: Any = SimpleNamespace(record=Record(ManualClock()))
    reader = streams._Reader(stage, None, "")  # type: ignore[arg-type]
    reader.seen["clicks"] = rows
    reader.cursors = cursors
    return stage, reader, sent


ALL = [("0", 1), ("1", 1), ("2", 1), ("3", 1)]


def test_a_stream_equal_to_the_ledger_passes() -> None:
    """The positive control of the cases below."""
    stage, reader, sent = _read(ALL, ["a", "b", "c", "d"])
    assert "none lost" in streams._judged(stage, reader, sent)
    assert stage.record.figures.firehose_events == 4
    assert stage.record.figures.firehose_lost == stage.record.figures.firehose_repeated == 0


@pytest.mark.parametrize(
    ("rows", "cursors", "told"),
    [
        (ALL[:3], ["a", "b", "c"], "1 lost"),
        ([*ALL, ALL[3]], ["a", "b", "c", "d", "e"], "1 repeated"),
        (ALL, ["a", "b", "c", "c"], "1 repeated"),
        ([ALL[1], ALL[0], *ALL[2:]], ["a", "b", "c", "d"], "order"),
        ([*ALL[:3], ("3", 2)], ["a", "b", "c", "d"], "1 lost, 1 repeated"),
    ],
)
def test_lost_repeated_and_reordered_events_are_found(
    rows: list[tuple[str, int]], cursors: list[str], told: str
) -> None:
    """Each single fault of a stream fails the step and shows in the figures."""
    stage, reader, sent = _read(rows, cursors)
    with pytest.raises(StepError, match=told):
        streams._judged(stage, reader, sent)


HEADERS = {
    "x-ratelimit-limit": "20",
    "x-ratelimit-remaining": "0",
    "ratelimit-policy": '"affiliate";q=20;w=4',
    "ratelimit": '"affiliate";r=0;t=1',
    "retry-after": "1",
}
BODY = {"Error": "e", "error": "e", "type": access.QUOTA_TYPE}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"x-ratelimit-remaining": "3"}, {}),
        ({"ratelimit": '"affiliate";r=0;t=2'}, {}),
        ({"retry-after": "0", "ratelimit": '"affiliate";r=0;t=0'}, {}),
        ({"ratelimit-policy": '"affiliate";q=25;w=5'}, {}),
        ({}, {"type": "about:blank"}),
        ({}, {"Error": "another"}),
    ],
)
def test_a_429_that_contradicts_itself_is_found(
    headers: dict[str, str], body: dict[str, str]
) -> None:
    """Headers, draft headers and body must tell one story."""
    access._check_honest(httpx.Response(429, headers=HEADERS, json=BODY))
    with pytest.raises(StepError):
        access._check_honest(httpx.Response(429, headers=HEADERS | headers, json=BODY | body))


def test_a_429_without_a_header_is_found() -> None:
    """A missing header is not an exception of the demo, but a failed step."""
    lacking = {name: HEADERS[name] for name in HEADERS if name != "retry-after"}
    with pytest.raises(StepError, match="retry-after"):
        access._check_honest(httpx.Response(429, headers=lacking, json=BODY))
