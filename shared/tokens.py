"""Who a bearer token speaks for: staff, operators and partner users, proved by their issuer.

Tokens are JWTs of the issuer that `JWT_JWKS` names: an https URL, or the file of the local issuer.
Only asymmetric signatures count (RS256, ES256, EdDSA), each by the algorithm that its key is made
for, so that no token chooses how it is checked. `iss`, `aud`, `exp` and `sub` are required; clocks
may differ by 30 seconds.

Claims: `sub`, `name`, `network`, `partner` (partner users), `permissions[]`, `super_user`, and
`act.sub`, the person behind an impersonation. Permissions are judged on `sub`; both are recorded.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import aiohttp
import jwt
import msgspec

from shared.clock import Clock, SystemClock
from shared.config import TokenSettings
from shared.errors import ForbiddenError, SetupError, UnauthenticatedError, UnavailableError

log = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
LEEWAY_SECONDS: Final = 30
TOKEN_BYTES_MAX: Final = 16_384
KEYS_BYTES_MAX: Final = 1_048_576
KEYS_REFRESH_SECONDS: Final = 600.0
"""Age at which the key set is read anew, so that a key the issuer withdrew stops working."""
KEYS_AGE_SECONDS_MAX: Final = 3_600.0
"""Age past which a key set that could not be read anew is no longer believed."""
UNKNOWN_KEY_PAUSE_SECONDS: Final = 10.0
"""At most one reading in this time for unknown key ids, whoever sends them."""
FETCH_SECONDS: Final = 5.0

SECURITY_FULL: Final = "security:full"
SECURITY_READ: Final = "security:read"
ACCOUNTS_HISTORY_FULL: Final = "accounts_history:full"
ACCOUNTS_HISTORY_READ: Final = "accounts_history:read"
AUDIT_READ: Final = "audit:read"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token speaks for.

    Attributes:
        subject: who acts; permissions are theirs.
        name: for people to read.
        network_id: the network they belong to; 0 for operators of the whole platform.
        network_affiliate_id: the partner they belong to; 0 for staff.
        permissions: `<area>:full` or `<area>:read`.
        is_super_user: may override eligibility and set budgets.
        behind: the person behind an impersonation, else empty.
    """

    subject: str
    name: str = ""
    network_id: int = 0
    network_affiliate_id: int = 0
    permissions: frozenset[str] = frozenset()
    is_super_user: bool = False
    behind: str = ""

    @property
    def is_staff(self) -> bool:
        """Whether they work for a network, as opposed to a partner or the platform."""
        return self.network_id > 0 and self.network_affiliate_id == 0

    def has_any(self, permissions: Iterable[str]) -> bool:
        """Whether they have at least one of `permissions`."""
        return not self.permissions.isdisjoint(permissions)

    def require_any(self, permissions: Iterable[str]) -> None:
        """Let pass who has at least one of `permissions`.

        Raises:
            ForbiddenError: they have none.
        """
        if not self.has_any(permissions):
            raise ForbiddenError


class _Act(msgspec.Struct):
    sub: str


_Id = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class _Entries(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Claims(msgspec.Struct):
    sub: str
    name: str = ""
    network: _Id = 0
    partner: _Id = 0
    permissions: tuple[str, ...] = ()
    super_user: bool = False
    act: _Act | None = None

    def caller(self) -> Caller:
        return Caller(
            subject=self.sub,
            name=self.name,
            network_id=self.network,
            network_affiliate_id=self.partner,
            permissions=frozenset(self.permissions),
            is_super_user=self.super_user,
            behind=self.act.sub if self.act else "",
        )


class TokenVerifier:
    """Verifies bearer tokens against the issuer's key set, which it keeps and reads anew by need.

    Raises:
        SetupError: `JWT_JWKS` is an unencrypted URL.
    """

    def __init__(self, settings: TokenSettings, clock: Clock | None = None) -> None:
        if settings.jwt_jwks.startswith("http://"):
            raise SetupError("JWT_JWKS: use https, or the path of a file; http can be forged.")
        self._settings = settings
        self._keys = _KeySet(settings.jwt_jwks, clock or SystemClock())

    async def verify(self, authorization: str | None) -> Caller:
        """Whom the `Authorization` header speaks for.

        Args:
            authorization: the header's value, `Bearer <token>`, or None if there is none.

        Raises:
            UnauthenticatedError: there is no token, or it proves nothing; the message says why.
            UnavailableError: the issuer's keys cannot be read now.
        """
        if not authorization:
            raise UnauthenticatedError("No Authentication Method Found")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_BYTES_MAX:
            raise UnauthenticatedError("Unable to authenticate request: not a bearer token")
        try:
            key = await self._key_of(token)
            payload = self._checked(token, key)
            return msgspec.convert(payload, _Claims).caller()
        except (jwt.PyJWTError, msgspec.ValidationError) as error:
            raise UnauthenticatedError(f"Unable to authenticate request: {error}") from error

    async def _key_of(self, token: str) -> jwt.PyJWK:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError(f"use one of {', '.join(ALGORITHMS)}")
        key = await self._keys.find(str(header.get("kid", "")))
        if key is None:
            raise jwt.InvalidKeyError("the issuer has no such key")
        return key

    def _checked(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=self._settings.jwt_audience,
            issuer=self._settings.jwt_issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )


class _KeySet:
    """The issuer's public keys by id, read when first asked for, when old, and for unknown ids."""

    def __init__(self, source: str, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading = asyncio.Lock()  # one reading at a time; the others wait for its result

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key named `key_id`, or None if the issuer has no such key.

        Raises:
            UnavailableError: the keys cannot be read, and none young enough are held.
        """
        if self._is_due(key_id):
            async with self._reading:
                if self._is_due(key_id):
                    await self._read()
        if self._read_at is None or self._since(self._read_at) > KEYS_AGE_SECONDS_MAX:
            raise UnavailableError("The token issuer's keys (JWT_JWKS) cannot be read.")
        return self._keys.get(key_id)

    def _is_due(self, key_id: str) -> bool:
        if self._tried_at is None:
            return True
        is_wanted = (
            key_id not in self._keys
            or self._read_at is None
            or self._since(self._read_at) > KEYS_REFRESH_SECONDS
        )
        return is_wanted and self._since(self._tried_at) >= UNKNOWN_KEY_PAUSE_SECONDS

    def _since(self, moment: float) -> float:
        return self._clock.monotonic() - moment

    async def _read(self) -> None:
        self._tried_at = self._clock.monotonic()
        try:
            self._keys = _parsed(await _contents(self._source))
            self._read_at = self._tried_at
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError, jwt.PyJWTError) as error:
            log.warning("token keys not read", extra={"reason": repr(error)})


async def _contents(source: str) -> bytes:
    if not source.startswith("https://"):
        return await asyncio.to_thread(Path(source).read_bytes)
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(source) as answer:
        answer.raise_for_status()
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > KEYS_BYTES_MAX:
                raise ValueError(f"more than {KEYS_BYTES_MAX} bytes")
        return bytes(body)


def _parsed(contents: bytes) -> dict[str, jwt.PyJWK]:
    """The keys we may use; a set may also hold others, for other purposes."""
    entries = msgspec.json.decode(contents, type=_Entries).keys
    keys = (_usable(entry) for entry in entries)
    return {str(key.key_id or ""): key for key in keys if key is not None}


def _usable(entry: dict[str, Any]) -> jwt.PyJWK | None:
    try:
        key = jwt.PyJWK(entry)
    except jwt.PyJWTError:
        return None
    is_for_signatures = entry.get("use", "sig") == "sig"
    return key if is_for_signatures and key.algorithm_name in ALGORITHMS else None


def issue_token(
    private_key: str | bytes,
    caller: Caller,
    *,
    key_id: str,
    issuer: str,
    audience: str,
    now: float,
    lifetime_seconds: int = 3_600,
    algorithm: str = "EdDSA",
) -> str:
    """A token that speaks for `caller`: the local issuer, which the embedded platform uses.

    Args:
        private_key: PEM.
        caller: whom it speaks for.
        key_id: under which the key set names the public half.
        issuer: `iss`.
        audience: `aud`.
        now: seconds, UTC.
        lifetime_seconds: until `exp`.
        algorithm: one of `ALGORITHMS`, as the key is made for.
    """
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "iat": int(now),
        "exp": int(now) + lifetime_seconds,
        "sub": caller.subject,
        "name": caller.name,
        "network": caller.network_id,
        "partner": caller.network_affiliate_id,
        "permissions": sorted(caller.permissions),
        "super_user": caller.is_super_user,
    }
    if caller.behind:
        claims["act"] = {"sub": caller.behind}
    return jwt.encode(claims, private_key, algorithm=algorithm, headers={"kid": key_id})
