"""An answer over facts: its body, and how fresh it is.

How fresh an answer is, is asked before the facts are: so it is never ahead of what was read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.reporting.scope import Scope

Through = Callable[[Scope, Sequence[str]], float]
"""Log time up to which the partner's rows of these tables are stored."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, and the log time (seconds, UTC) up to which it is complete."""

    body: dict[str, Any]
    through: float
