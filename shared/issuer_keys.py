"""The public keys of the token issuer: read when needed, believed for a while.

Only keys for RS256, ES256 and EdDSA are taken, each bound to its one algorithm. Left out, and told
in the log: RSA below 2048 bits, a private or a shared secret key, and two keys of one name and
algorithm, since nobody could say which of them is meant.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shared.clock import Clock
from shared.errors import SetupError, UnavailableError

log = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
RSA_BITS_MIN: Final = 2_048
KEYS_BYTES_MAX: Final = 1_048_576
REFRESH_SECONDS: Final = 600.0
"""Age at which the key set is read anew, so that a key the issuer withdrew stops working."""
AGE_SECONDS_MAX: Final = 3_600.0
"""Age past which a key set that could not be read anew is no longer believed."""
PAUSE_SECONDS: Final = 10.0
"""At most one reading in this time, whoever sends unknown key ids."""
FETCH_SECONDS: Final = 5.0

Name = tuple[str, str]
"""Key id and algorithm: an issuer may give keys of different kinds one id."""


class _Entries(msgspec.Struct):
    keys: list[dict[str, Any]]


class IssuerKeys:
    """The issuer's public keys, read when first asked for, when old, and for unknown ids.

    Args:
        source: an https URL, or the path of a file.
        clock: the time.

    Raises:
        SetupError: `source` is a URL that anybody on the way could answer.
    """

    def __init__(self, source: str, clock: Clock) -> None:
        if "://" in source and not source.startswith("https://"):
            raise SetupError("JWT_JWKS: use https, or the path of a file; http can be forged.")
        self._source = source
        self._clock = clock
        self._keys: dict[Name, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading = asyncio.Lock()  # one reading at a time; who needs its result waits for it

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """The key of that name, or None if the issuer has no such key.

        Raises:
            UnavailableError: the keys cannot be read, and none young enough are held.
        """
        name = (key_id, algorithm)
        is_spared = self._reading.locked() and self._is_believed() and name in self._keys
        if self._is_due(name) and not is_spared:
            async with self._reading:
                if self._is_due(name):
                    await self._read()
        if not self._is_believed():
            raise UnavailableError("The token issuer's keys (JWT_JWKS) cannot be read.")
        return self._keys.get(name)

    def _is_believed(self) -> bool:
        return self._read_at is not None and self._since(self._read_at) <= AGE_SECONDS_MAX

    def _is_due(self, name: Name) -> bool:
        if self._tried_at is None:
            return True
        is_wanted = (
            name not in self._keys
            or self._read_at is None
            or self._since(self._read_at) > REFRESH_SECONDS
        )
        return is_wanted and self._since(self._tried_at) >= PAUSE_SECONDS

    def _since(self, moment: float) -> float:
        return self._clock.monotonic() - moment

    async def _read(self) -> None:
        self._tried_at = self._clock.monotonic()
        try:
            self._keys = _parsed(await _contents(self._source))
            self._read_at = self._tried_at
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("token keys not read", extra={"reason": repr(error)})


async def _contents(source: str) -> bytes:
    """The bytes of the key set, from a URL or a file."""
    if source.startswith("https://"):
        return await _fetched(source)
    return await asyncio.to_thread(Path(source).read_bytes)


async def _fetched(url: str) -> bytes:
    """What the issuer says; a redirection is refused, since it could lead away from https.

    Raises:
        OSError, TimeoutError, ValueError: it could not be had.
    """
    import aiohttp  # noqa: PLC0415 - a tenth of a process' start, for those alone that read a URL

    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            return await _body(answer.status, answer.content.iter_any())
    except aiohttp.ClientError as error:
        raise ConnectionError(repr(error)) from error


async def _body(status: int, chunks: AsyncIterator[bytes]) -> bytes:
    if status != 200:  # noqa: PLR2004 - the one status that carries keys
        raise ValueError(f"status {status}")
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > KEYS_BYTES_MAX:
            raise ValueError(f"more than {KEYS_BYTES_MAX} bytes")
    return bytes(body)


def _parsed(contents: bytes) -> dict[Name, jwt.PyJWK]:
    """The keys that may be used; a set may also hold others, for other purposes.

    Raises:
        ValueError: it is no key set.
    """
    try:
        entries = msgspec.json.decode(contents, type=_Entries).keys
    except msgspec.DecodeError as error:
        raise ValueError(f"no key set: {error}") from error
    usable = [key for entry in entries if (key := _usable(entry)) is not None]
    counts = Counter(map(_name, usable))
    for (key_id, algorithm), count in counts.items():
        if count > 1:
            _left_out(key_id, f"{count} keys for {algorithm} have this id")
    return {_name(key): key for key in usable if counts[_name(key)] == 1}


def _usable(entry: dict[str, Any]) -> jwt.PyJWK | None:
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ("verify",)):
        return None  # for another purpose
    try:
        key = jwt.PyJWK(entry)
        if key.algorithm_name not in ALGORITHMS:
            return None
        key.Algorithm.prepare_key(key.key)  # notices a curve that the algorithm does not take
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        _left_out(entry.get("kid"), type(error).__name__)
        return None
    weakness = _weakness(entry, key)
    if weakness:
        _left_out(entry.get("kid"), weakness)
    return None if weakness else key


def _weakness(entry: dict[str, Any], key: jwt.PyJWK) -> str:
    """Why nobody should believe what the key signs; empty if nothing is known."""
    if "d" in entry:
        return "it is private: whoever reads it can sign tokens"
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < RSA_BITS_MIN:
        return f"RSA below {RSA_BITS_MIN} bits"
    return ""


def _name(key: jwt.PyJWK) -> Name:
    return str(key.key_id or ""), key.algorithm_name


def _left_out(key_id: object, reason: str) -> None:
    log.warning("token key left out", extra={"key_id": key_id, "reason": reason})
