"""Protects the kill switch of the fault tests: it must kill exactly where and when it is told to."""

import os
import signal
import subprocess
import sys

import pytest

CHILD = """
from shared.faultpoint import point
for number in range(5):
    point("here")
    point("there")
    print(number, flush=True)
"""


def passes_survived(crash_at: str | None) -> tuple[int, int]:
    """Numbers printed by a child that passes two points five times, and its exit status."""
    env = {name: value for name, value in os.environ.items() if name != "PORTICO_CRASH_AT"}
    if crash_at is not None:
        env["PORTICO_CRASH_AT"] = crash_at
    child = subprocess.run(
        [sys.executable, "-c", CHILD], env=env, capture_output=True, timeout=60, check=False
    )
    return len(child.stdout.split()), child.returncode


@pytest.mark.parametrize(
    ("crash_at", "survived"), [("here", 0), ("here:1", 0), ("there:3", 2), ("here:5", 4)]
)
def test_the_process_dies_by_sigkill_at_the_pass_it_was_given(crash_at, survived):
    """A fault test that names a point and a pass gets its crash there and nowhere else."""
    assert passes_survived(crash_at) == (survived, -signal.SIGKILL)


@pytest.mark.parametrize("crash_at", [None, "", "elsewhere", "here:9"])
def test_a_process_that_is_not_told_to_die_lives(crash_at):
    """Production runs with these points in place and the variable unset."""
    assert passes_survived(crash_at) == (5, 0)
