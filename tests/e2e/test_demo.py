"""The story as `make demo` plays it: every promise between the two doors, the log and the trail."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.soak import count


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_the_whole_story_goes_as_promised() -> None:
    """No step fails, no figure contradicts, and no process is left."""
    with tempfile.TemporaryDirectory(prefix="portico-demo-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tools.demo", "--folder", folder],
            env={**os.environ, "SIMULATOR_HISTORY_CLICKS": str(count(3_000, 10_000))},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        told = json.loads((Path(folder) / "demo.json").read_text())
    failed = [step for step in told["steps"] if not step["ok"]]
    assert not failed, failed
    assert told["ok"] is True
    assert done.returncode == 0, done.stderr[-2_000:]
    figures = told["figures"]
    assert len(told["steps"]) == 16
    assert figures["report_equals_ledger"] is True
    assert figures["firehose_events"] > 2_000
    assert figures["firehose_lost"] == figures["firehose_repeated"] == 0
    assert figures["audit_verified"] is True
    assert figures["audit_entries"] > 40
    assert figures["anomalies"] >= 1
    assert 0 < figures["revocation_p99_ms"] < 5_000
    assert 0 < figures["rss_mb"] < 1_500
