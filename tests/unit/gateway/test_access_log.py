"""Protects operators who read the access log, and requests from its disk."""

import json

import pytest

from services.gateway.access_log import AccessLog, Entry
from shared.clock import ManualClock


def entry(request_id: str = "r1") -> Entry:
    return Entry(
        ended_at=1_767_225_600.25,
        request_id=request_id,
        method="GET",
        endpoint="/v1/affiliates/network",
        status=200,
        seconds=0.0012345678,
        network_id=1,
        network_affiliate_id=7,
        key="aff_…abcd",
        client_ip="203.0.113.7",
        refusal="",
    )


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_request_is_a_line_of_json(tmp_path):
    """With the time first, in UTC."""
    log = AccessLog(str(tmp_path / "access.log"), ManualClock())
    log.add(entry())
    await log.flush()
    (found,) = lines(tmp_path / "access.log")
    assert found == {
        "time": "2026-01-01T00:00:00.250Z",
        "request_id": "r1",
        "method": "GET",
        "endpoint": "/v1/affiliates/network",
        "status": 200,
        "seconds": 0.001235,
        "network_id": 1,
        "network_affiliate_id": 7,
        "key": "aff_…abcd",
        "client_ip": "203.0.113.7",
        "refusal": "",
    }
    assert next(iter(found)) == "time"


async def test_the_file_may_be_moved_away(tmp_path):
    """What comes afterwards is in a new one; nothing is lost between."""
    path = tmp_path / "access.log"
    log = AccessLog(str(path), ManualClock())
    for request_id in ("r1", "r2"):
        log.add(entry(request_id))
        await log.flush()
        path.rename(tmp_path / request_id)
    assert [lines(tmp_path / name)[0]["request_id"] for name in ("r1", "r2")] == ["r1", "r2"]


@pytest.mark.logs_errors
async def test_what_cannot_be_written_is_dropped_and_counted(tmp_path):
    """A disk that takes nothing ends no request; once it does again, lines are written."""
    path = tmp_path / "nowhere" / "access.log"
    log = AccessLog(str(path), ManualClock(), entries_max=2)
    for _ in range(3):
        log.add(entry())
    assert log.dropped == 1
    await log.flush()
    assert (log.written, log.dropped) == (0, 3)
    path.parent.mkdir()
    log.add(entry())
    await log.flush()
    assert (log.written, log.dropped, len(lines(path))) == (1, 3, 1)
