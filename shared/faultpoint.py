"""Named points at which a test can kill or stop the process: nothing in production.

Production code calls `point("outbox.after_commit")` where a crash is hardest to survive. With the
variable `PORTICO_CRASH_AT="name"` or `"name:nth"` set when the process starts, the nth pass (the
first, if none is given) of that point kills the process as a power cut would: no `finally` runs and
no buffer is flushed. `PORTICO_STOP_AT` likewise stops it (SIGSTOP), as a machine that hangs, until
the test continues it. Without them, a pass costs one look-up in an empty dict.
"""

import os
import signal
from typing import Final

VARIABLES: Final = {"PORTICO_CRASH_AT": signal.SIGKILL, "PORTICO_STOP_AT": signal.SIGSTOP}


class _Armed:
    """What to do at a point, and how many passes are left until then."""

    def __init__(self, passes_left: int, action: signal.Signals) -> None:
        self._passes_left = passes_left
        self._action = action

    def pass_by(self) -> None:
        self._passes_left -= 1
        if self._passes_left == 0:
            os.kill(os.getpid(), self._action)


def _armed() -> dict[str, _Armed]:
    points = {}
    for variable, action in VARIABLES.items():
        name, _, nth = os.environ.get(variable, "").partition(":")  # noqa: TID251 - tests set it
        if name:
            points[name] = _Armed(int(nth or 1), action)
    return points


_points: Final = _armed()


def point(name: str) -> None:
    """Die or stop here, if this is the pass that the process was started for.

    Safe in coroutines and callbacks: it never awaits. Passes on several threads may be miscounted.
    """
    armed = _points.get(name)
    if armed is not None:
        armed.pass_by()
