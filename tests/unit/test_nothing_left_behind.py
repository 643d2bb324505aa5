"""The suite itself fails tests that hide a logged error or leave a task running."""

import subprocess
import sys

from tests.backends import ROOT

TESTS = """
import asyncio, logging, pytest

async def test_leaves_a_task():
    asyncio.get_running_loop().left = asyncio.ensure_future(asyncio.sleep(60))

def test_logs_an_error():
    logging.getLogger("x").error("lost %d", 3)

@pytest.mark.logs_errors
def test_may_log_errors():
    logging.getLogger("x").error("expected")

async def test_leaves_nothing():
    await asyncio.sleep(0)
"""


def test_a_left_task_or_a_logged_error_fails_a_test(tmp_path):
    """Two culprits are found; the marked one and the clean one pass."""
    (tmp_path / "test_culprits.py").write_text(TESTS)
    options = ["-p", "tests.conftest", "-c", "pyproject.toml", "-p", "no:cacheprovider", "-q"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "4 passed, 2 errors" in done.stdout
    assert "The test left tasks running" in done.stdout
    assert "x: lost 3" in done.stdout
