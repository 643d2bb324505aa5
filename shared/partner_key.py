"""The look of a partner key: recognisable by secret scanners, checkable before any look-up.

`aff_` + 27 base62 characters (160 random bits) + 6 base62 characters of their CRC-32. Scanners find
it by `aff_[0-9A-Za-z]{33}`. A door knows only its SHA-256; everywhere else a key is its `key_id`
and its mask, `aff_…` and the last four characters.
"""

import hashlib
import re
import secrets
import zlib
from typing import Final

PREFIX: Final = "aff_"
BODY_LENGTH: Final = 27
CHECK_LENGTH: Final = 6
LENGTH: Final = len(PREFIX) + BODY_LENGTH + CHECK_LENGTH
RANDOM_BITS: Final = 160
_KEY: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{BODY_LENGTH + CHECK_LENGTH}}}")
ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple(high + low for high in ALPHABET for low in ALPHABET)
"""What two base62 digits read, by their number."""


class PartnerKey:
    """A key in clear, typed so that printing or logging it shows its mask."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The key in clear, for the one answer that may carry it."""
        return self._text

    @property
    def digest(self) -> str:
        """SHA-256 of the key, lower-case hex."""
        return digest_of(self._text)

    @property
    def masked(self) -> str:
        """`aff_…` and the last four characters."""
        return mask_of(self._text)

    def __repr__(self) -> str:
        return f"PartnerKey({self.masked})"

    def __str__(self) -> str:
        return self.masked

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartnerKey) and secrets.compare_digest(
            self._text.encode(), other._text.encode()
        )

    def __hash__(self) -> int:
        return hash(self.digest)


class PresentedKey:
    """What a caller presents as a key, and what follows from it, worked out once.

    Attributes:
        text: as sent; it may be anything.
        is_well_formed: whether somebody may have issued it.
        digest: its SHA-256, see `digest_of`; empty if nobody can have issued it.
    """

    __slots__ = ("digest", "is_well_formed", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_well_formed = is_well_formed(text)
        self.digest = digest_of(text) if self.is_well_formed else ""

    def __repr__(self) -> str:
        return f"PresentedKey({mask_of(self.text)})"


def generate() -> PartnerKey:
    """A new key of 160 random bits."""
    body = _base62(secrets.randbits(RANDOM_BITS), BODY_LENGTH)
    return PartnerKey(PREFIX + body + _check(body))


def is_well_formed(text: str) -> bool:
    """Whether `text` is a key somebody may have issued; costs no look-up."""
    body = text[len(PREFIX) : -CHECK_LENGTH]
    return len(text) == LENGTH and text.startswith(PREFIX) and text.endswith(_check(body))


def digest_of(text: str) -> str:
    """SHA-256 of a key, lower-case hex: the name under which doors find it."""
    return hashlib.sha256(text.encode()).hexdigest()


def mask_of(text: str) -> str:
    """How a key reads everywhere but in the answer that reveals it."""
    return f"{PREFIX}…{text[-4:]}" if len(text) == LENGTH else f"{PREFIX}…"


def masked_in(text: str) -> str:
    """`text` with the mask of every key in it: for words of people, who paste what they should not.

    A key stands out by its looks alone, also where letters follow it at once.
    """
    return _KEY.sub(lambda found: mask_of(found[0]), text) if PREFIX in text else text


def _check(body: str) -> str:
    """The CRC-32 in base 62, two digits at a time: doors work it out for every guess."""
    high, rest = divmod(zlib.crc32(body.encode()), len(_PAIRS) ** 2)
    middle, low = divmod(rest, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
