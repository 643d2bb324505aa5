"""Times as people write and read them: `7d`, `2027-01-31T00:00:00Z`, `2027-01-31 00:00`. Pure."""

import re
from datetime import UTC, datetime
from typing import Final

from shared.clock import rfc3339
from shared.errors import InvalidError

UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"(\d{1,5})([smhdw])")


def seconds_of(text: str) -> int:
    """The seconds of a span such as `90s`, `30m`, `12h`, `7d`, `2w`; `0` is none.

    Raises:
        InvalidError: it is no span.
    """
    if text == "0":
        return 0
    found = _SPAN.fullmatch(text)
    if found is None:
        raise InvalidError(f"{text!r} is no time: write 30m, 12h, 7d, 2w, or 0.")
    return int(found[1]) * UNIT_SECONDS[found[2]]


def moment_of(text: str, now: float) -> str:
    """A moment as the API takes it, from one with a time zone or from a span that begins now.

    Raises:
        InvalidError: it is neither.
    """
    if _SPAN.fullmatch(text):
        return rfc3339(now + seconds_of(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidError(
            f"{text!r} is no moment: write 2027-01-31T00:00:00Z, or a time from now such as 90d."
        )
    return text


def readable(moment: str | None) -> str:
    """A moment of the API to the minute, in UTC; what is no moment stays as it is."""
    if not moment:
        return ""
    try:
        return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M}"
    except ValueError:
        return moment


def day(moment: str | None) -> str:
    """The day of a moment of the API, in UTC."""
    return readable(moment)[: len("2027-01-31")]
