"""Who is calling, signed by the door that let them in, so that no service trusts a bare header.

The header `X-Portico-Identity` is `v1.<payload>.<mac>`: base64url of canonical JSON and of its
HMAC-SHA-256 under the first of `IDENTITY_SECRETS`; every secret of the list verifies, so that one
can be rolled over. It is bound to one method and path and holds for 30 seconds.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

from shared.errors import SetupError, UnauthenticatedError

HEADER: Final = "x-portico-identity"
LIFETIME_SECONDS: Final = 30
SECRET_BYTES_MIN: Final = 16


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of one request.

    Partners have all members; callers of `jwt` and `none` routes have network, partner and key
    empty (0, 0, ""), since the owning service verifies their token itself.

    Attributes:
        network_id: the partner's network.
        network_affiliate_id: the partner.
        key_id: the key that was used.
        request_id: as in the answer's `X-Request-Id`.
        client_ip: the address the door saw, through trusted proxies.
        method: of the request the identity is for.
        path: likewise, without the query.
        expires_at: seconds, UTC.
    """

    network_id: int = 0
    network_affiliate_id: int = 0
    key_id: str = ""
    request_id: str
    client_ip: str
    method: str
    path: str
    expires_at: int


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Identity)
_DOMAIN: Final = b"portico-identity.v1."
"""Begins what is signed, so that no other use of the secret makes an identity."""
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class IdentitySigner:
    """Signs and verifies identities.

    Raises:
        SetupError: no secret, or one shorter than 16 bytes.
    """

    def __init__(self, secrets: str) -> None:
        parts = [secret.strip().encode() for secret in secrets.split(",") if secret.strip()]
        if not parts or min(map(len, parts)) < SECRET_BYTES_MIN:
            raise SetupError(
                f"IDENTITY_SECRETS: needs one or more secrets of {SECRET_BYTES_MIN}+ bytes, "
                "separated by commas."
            )
        self._begun = [hmac.new(part, _DOMAIN, hashlib.sha256) for part in parts]

    def sign(self, identity: Identity) -> str:
        """The header value for `identity`."""
        payload = _base64url(_ENCODER.encode(identity))
        return (b"v1.%b.%b" % (payload, _mac(self._begun[0], payload))).decode()

    def verify(self, value: str, *, method: str, path: str, now: float) -> Identity:
        """The identity in a header, if it is genuine, fresh and for this very request.

        Raises:
            UnauthenticatedError: it is not.
        """
        version, _, rest = value.partition(".")
        payload, _, mac = rest.partition(".")
        raw = payload.encode()
        if version != "v1" or not any(
            hmac.compare_digest(_mac(begun, raw), mac.encode()) for begun in self._begun
        ):
            raise UnauthenticatedError("identity: not signed by a door of this platform")
        try:
            identity = _DECODER.decode(base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4)))
        except (msgspec.MsgspecError, binascii.Error) as error:
            raise UnauthenticatedError(f"identity: {error}") from error
        if not now < identity.expires_at <= now + 2 * LIFETIME_SECONDS:
            raise UnauthenticatedError("identity: expired; compare the clocks of door and service")
        if (identity.method, identity.path) != (method, path):
            raise UnauthenticatedError("identity: signed for another request")
        return identity


def _mac(begun: hmac.HMAC, payload: bytes) -> bytes:
    """The MAC of a payload under the secret with which one was begun."""
    mac = begun.copy()
    mac.update(payload)
    return _base64url(mac.digest())


def _base64url(content: bytes) -> bytes:
    """Without padding; the library's takes twice the time."""
    return binascii.b2a_base64(content, newline=False).translate(_URL_SAFE).rstrip(b"=")
