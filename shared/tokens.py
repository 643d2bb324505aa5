"""Who a bearer token speaks for: staff, operators and partner users, proved by their issuer.

Tokens are JWTs of the issuer that `JWT_JWKS` names: an https URL, or the file of the local issuer.
Only asymmetric signatures count (RS256, ES256, EdDSA), each by the algorithm that its key is made
for, so that no token chooses how it is checked. `iss`, `aud`, `exp` and `sub` are required; clocks
may differ by 30 seconds.

Claims: `sub`, `name`, `network`, `partner` (partner users), `permissions[]`, `roles[]` (what they
carry says `JWT_ROLES`), `super_user`, and `act.sub`, the person behind an impersonation.
Permissions are judged on `sub`; both are recorded. A word that is no permission carries nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

import jwt
import msgspec

from shared.clock import Clock, SystemClock
from shared.config import TokenSettings
from shared.errors import ForbiddenError, UnauthenticatedError
from shared.issuer_keys import ALGORITHMS, IssuerKeys
from shared.roles import Roles

LEEWAY_SECONDS: Final = 30
TOKEN_BYTES_MAX: Final = 16_384

SECURITY_FULL: Final = "security:full"
SECURITY_READ: Final = "security:read"
ACCOUNTS_HISTORY_FULL: Final = "accounts_history:full"
ACCOUNTS_HISTORY_READ: Final = "accounts_history:read"
AUDIT_READ: Final = "audit:read"
PERMISSIONS: Final = frozenset(
    {SECURITY_FULL, SECURITY_READ, ACCOUNTS_HISTORY_FULL, ACCOUNTS_HISTORY_READ, AUDIT_READ}
)
"""All that there are."""


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


_Text = Annotated[str, msgspec.Meta(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_Subject = Annotated[
    str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*\Z")
]
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class _Act(msgspec.Struct):
    sub: _Subject


class _Claims(msgspec.Struct):
    iss: str
    aud: str | tuple[str, ...]
    exp: float
    sub: _Subject
    nbf: float = 0.0
    iat: float = 0.0
    name: _Text = ""
    network: _Id = 0
    partner: _Id = 0
    permissions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    super_user: bool = False
    act: _Act | None = None

    @property
    def audiences(self) -> tuple[str, ...]:
        return (self.aud,) if isinstance(self.aud, str) else self.aud


class _RefusedError(Exception):
    """The token proves nothing; the message says why."""


class TokenVerifier:
    """Verifies bearer tokens against the issuer's keys.

    Args:
        settings: issuer, audience, keys, and what roles mean.
        clock: the time.

    Raises:
        SetupError: `JWT_JWKS` is an unencrypted URL, or `JWT_ROLES` is wrong.
    """

    def __init__(self, settings: TokenSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._keys = IssuerKeys(settings.jwt_jwks, self._clock)
        self._roles = Roles(settings.jwt_roles, PERMISSIONS)

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
            claims = _decoded(_signed(token, await self._key_of(token)))
            self._require_for_us_and_now(claims)
        except (_RefusedError, jwt.PyJWTError) as error:
            raise UnauthenticatedError(f"Unable to authenticate request: {error}") from error
        return self._caller(claims)

    async def _key_of(self, token: str) -> jwt.PyJWK:
        """The issuer's key that the header names; nothing else of the header is believed."""
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise _RefusedError(f"use one of {', '.join(ALGORITHMS)}")
        if "crit" in header:
            raise _RefusedError("its header demands an extension (crit); none is supported")
        key = await self._keys.find(header.get("kid", ""), algorithm)
        if key is None:
            raise _RefusedError("the issuer has no such key")
        return key

    def _require_for_us_and_now(self, claims: _Claims) -> None:
        now = self._clock.time()
        if claims.iss != self._settings.jwt_issuer:
            raise _RefusedError("it is of another issuer")
        if self._settings.jwt_audience not in claims.audiences:
            raise _RefusedError("it is for another audience")
        if now >= claims.exp + LEEWAY_SECONDS:
            raise _RefusedError("it has expired")
        if max(claims.nbf, claims.iat) > now + LEEWAY_SECONDS:
            raise _RefusedError("it is not valid yet; compare the clocks")

    def _caller(self, claims: _Claims) -> Caller:
        """A role is one of staff or operators: the same word at a partner carries nothing."""
        roles = () if claims.partner else claims.roles
        given = self._roles.permissions(claims.network, roles).union(claims.permissions)
        return Caller(
            subject=claims.sub,
            name=claims.name,
            network_id=claims.network,
            network_affiliate_id=claims.partner,
            permissions=given & PERMISSIONS,
            is_super_user=claims.super_user,
            behind=claims.act.sub if claims.act else "",
        )


def _signed(token: str, key: jwt.PyJWK) -> bytes:
    """The payload of `token`, if `key` has signed it by its own algorithm."""
    payload = jwt.PyJWS().decode(token, key, algorithms=[key.algorithm_name])
    return cast("bytes", payload)


def _decoded(payload: bytes) -> _Claims:
    try:
        return msgspec.json.decode(payload, type=_Claims)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _RefusedError(f"its claims are wrong: {error}") from error


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
    roles: Iterable[str] = (),
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
        roles: which `JWT_ROLES` may turn into further permissions.
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
    if given := list(roles):
        claims["roles"] = given
    if caller.behind:
        claims["act"] = {"sub": caller.behind}
    return jwt.encode(claims, private_key, algorithm=algorithm, headers={"kid": key_id})
