"""The demo says what happened: a failed step fails the whole, and nothing is left out."""

import asyncio
import json
from dataclasses import fields
from pathlib import Path

import pytest

from shared.clock import ManualClock
from tools.demo.__main__ import ACTS
from tools.demo.record import Figures, Record, StepError, check, until


async def _goes() -> str:
    return "as promised"


async def _fails() -> str:
    check(condition=False, told="2 lost")
    return "never"


async def _breaks() -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fails())
    return "never"


async def test_one_failed_step_fails_the_story_and_the_others_are_played() -> None:
    """Whoever reads `ok` may rely on it."""
    record = Record(ManualClock())
    assert not record.ok
    for name, act in (("goes", _goes), ("fails", _fails), ("breaks", _breaks), ("again", _goes)):
        await record.play(name, act)
    assert [(step.name, step.ok, step.detail) for step in record.steps] == [
        ("goes", True, "as promised"),
        ("fails", False, "2 lost"),
        ("breaks", False, "2 lost"),
        ("again", True, "as promised"),
    ]
    assert not record.ok


async def test_the_written_record_has_the_published_shape(tmp_path: Path) -> None:
    """Programs read `build/demo.json`."""
    record = Record(ManualClock())
    await record.play("goes", _goes)
    record.write(tmp_path / "build" / "demo.json")
    found = json.loads((tmp_path / "build" / "demo.json").read_text())
    assert list(found) == ["ok", "seconds", "steps", "figures"]
    assert found["ok"] is True
    assert list(found["steps"][0]) == ["name", "ok", "seconds", "detail"]
    assert list(found["figures"]) == [
        "revocation_p99_ms",
        "report_equals_ledger",
        "firehose_events",
        "firehose_lost",
        "firehose_repeated",
        "audit_entries",
        "audit_verified",
        "anomalies",
        "rss_mb",
    ]


def test_figures_never_look_good_before_they_are_measured() -> None:
    """A step that did not run leaves no figure that could be taken for a result."""
    unmeasured = Figures()
    assert not unmeasured.report_equals_ledger
    assert not unmeasured.audit_verified
    assert unmeasured.firehose_lost == unmeasured.firehose_repeated == -1
    assert unmeasured.revocation_p99_ms == unmeasured.rss_mb == -1
    assert len(fields(Figures)) == 9


async def test_waiting_ends_with_what_was_awaited() -> None:
    """A condition that never comes is a clear failure, not a hang."""
    clock = ManualClock()
    asked = 0

    async def third_time() -> int | None:
        nonlocal asked
        asked += 1
        return asked if asked == 3 else None

    async def never() -> None:
        return None

    assert await until(clock, "the third", third_time) == 3
    with pytest.raises(StepError, match="in vain for a miracle"):
        await until(clock, "a miracle", never, seconds=5)


def test_the_story_has_its_sixteen_steps() -> None:
    """Every promise of the platform's story is played."""
    assert [act.__name__ for act in ACTS] == [
        "staff_without_permission",
        "issue_key",
        "report_equals_ledger",
        "conversions_equal_ledger",
        "other_partner_out_of_reach",
        "allowlist_refuses",
        "budget_shared",
        "firehose_resumes",
        "partner_sees_own_keys",
        "link_works_once",
        "rotation_overlaps",
        "reshare_recorded",
        "revocation",
        "audit_trail_verifies",
        "tampering_found",
        "anomaly_raised",
    ]
