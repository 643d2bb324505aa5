"""What opens a link: its token, and the passphrase that staff may have given it.

Neither is kept. A token has 256 random bits, so a plain digest is enough to find it by; people
choose passphrases, so these are hashed by scrypt with a salt each.
"""

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pydantic import SecretStr

TOKEN_BYTES: Final = 32
PASSPHRASE_LENGTH_MIN: Final = 8
PASSPHRASE_LENGTH_MAX: Final = 200
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_SALT_BYTES: Final = 16
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 3, "maxmem": 64 * 2**20, "dklen": 32}
"""One of the sets that OWASP advises: 32 MiB and about a fifth of a second."""
_TOGETHER_MAX: Final = 2
"""Passphrases hashed at once; others wait, so that guesses cost neither memory nor every CPU."""


class ShareToken:
    """The secret part of a link, typed so that printing or logging it shows nothing of it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def generate(cls) -> "ShareToken":
        """A new token."""
        return cls(secrets.token_urlsafe(TOKEN_BYTES))

    def reveal(self) -> str:
        """The token in clear, for the one answer that carries the link."""
        return self._text

    @property
    def is_well_formed(self) -> bool:
        """Whether there may be such a link; costs no look-up."""
        return _TOKEN.fullmatch(self._text) is not None

    @property
    def digest(self) -> str:
        """SHA-256, lower-case hex: the name under which the link is found."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def __repr__(self) -> str:
        return "ShareToken(…)"

    __str__ = __repr__


def passphrase_text(given: str) -> str:
    """`given` as passphrases are compared: composed alike, without white space around."""
    return unicodedata.normalize("NFKC", given).strip()


class Passphrases:
    """Hashes passphrases in threads, for whoever has a turn."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_TOGETHER_MAX)  # guards memory and CPUs

    @asynccontextmanager
    async def turn(self) -> AsyncIterator["Hashing"]:
        """A turn to hash. Who guesses keeps it until the guess is counted.

        So those who wait find the link closed once it took as many wrong ones as it may, and cost
        no hash.
        """
        async with self._turns:
            yield Hashing()


class Hashing:
    """What may be done in a turn."""

    async def sealed(self, passphrase: SecretStr) -> bytes:
        """What is kept of a passphrase."""
        salt = os.urandom(_SALT_BYTES)
        return salt + await _hashed(passphrase, salt)

    async def fits(self, kept: bytes, given: SecretStr) -> bool:
        """Whether `given` is the passphrase of which `kept` was kept."""
        salt, expected = kept[:_SALT_BYTES], kept[_SALT_BYTES:]
        return hmac.compare_digest(await _hashed(given, salt), expected)


async def _hashed(passphrase: SecretStr, salt: bytes) -> bytes:
    text = passphrase_text(passphrase.get_secret_value()).encode()
    return await asyncio.to_thread(hashlib.scrypt, text, salt=salt, **_SCRYPT)
