"""Named points at which a test can kill the process: nothing in production, SIGKILL in fault tests.

Production code calls `point("outbox.after_commit")` where a crash is hardest to survive. With the
variable `PORTICO_CRASH_AT="name"` or `"name:nth"` set when the process starts, the nth pass (the
first, if none is given) of that point kills the process as a power cut would: no `finally` runs and
no buffer is flushed. Without it, a pass costs one comparison.
"""

import os
import signal
from typing import Final

VARIABLE: Final = "PORTICO_CRASH_AT"


def _parse(text: str) -> tuple[str, int]:
    name, _, nth = text.partition(":")
    return name, int(nth) if nth else 1


_name, _passes_left = _parse(os.environ.get(VARIABLE, ""))  # noqa: TID251 - only tests set it


def point(name: str) -> None:
    """Die here, if this is the pass that the process was started to die at.

    Safe in coroutines and callbacks: it never awaits. Passes on several threads may be miscounted.
    """
    if _name and name == _name:
        _pass()


def _pass() -> None:
    global _passes_left  # noqa: PLW0603 - the count belongs to the process
    _passes_left -= 1
    if _passes_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
