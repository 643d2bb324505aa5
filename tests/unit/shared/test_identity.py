"""Protects every service from a caller that no door let in."""

import base64

import pytest

from shared.errors import SetupError, UnauthenticatedError
from shared.identity import Identity, IdentitySigner

OLD, NEW = "an-old-secret-of-16+", "a-new-secret-of-16+b"
NOW = 1_767_225_600.0


def _identity(**changes) -> Identity:
    fields = {
        "network_id": 1,
        "network_affiliate_id": 2,
        "key_id": "k",
        "request_id": "r",
        "client_ip": "203.0.113.9",
        "method": "GET",
        "path": "/v1/affiliates/network",
        "expires_at": int(NOW) + 30,
    }
    return Identity(**(fields | changes))


def _verify(signer: IdentitySigner, value: str, *, now: float = NOW, method="GET", path=None):
    return signer.verify(value, method=method, path=path or _identity().path, now=now)


def test_a_signed_identity_is_verified():
    """The positive control of this file."""
    signer = IdentitySigner(NEW)
    assert _verify(signer, signer.sign(_identity())) == _identity()


def test_a_secret_can_be_rolled_over():
    """The first secret signs, every one verifies, a dropped one no longer does."""
    value = IdentitySigner(OLD).sign(_identity())
    assert _verify(IdentitySigner(f"{NEW},{OLD}"), value) == _identity()
    with pytest.raises(UnauthenticatedError):
        _verify(IdentitySigner(NEW), value)


@pytest.mark.parametrize("now", [NOW + 31, NOW + 3600, NOW - 3600])
def test_an_identity_holds_for_its_time_only(now):
    """A recorded header is worth nothing later."""
    signer = IdentitySigner(NEW)
    with pytest.raises(UnauthenticatedError, match="expired"):
        _verify(signer, signer.sign(_identity()), now=now)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", None), ("GET", "/v1/affiliates/network/"), ("GET", "/v1/x")]
)
def test_an_identity_is_for_one_request(method, path):
    """A header seen on one route opens no other."""
    signer = IdentitySigner(NEW)
    with pytest.raises(UnauthenticatedError, match="another request"):
        _verify(signer, signer.sign(_identity()), method=method, path=path)


def test_a_changed_identity_is_refused():
    """Any bit of payload or signature counts."""
    signer = IdentitySigner(NEW)
    version, payload, mac = signer.sign(_identity()).split(".")
    other = base64.urlsafe_b64encode(
        base64.urlsafe_b64decode(payload + "==").replace(b'_affiliate_id":2', b'_affiliate_id":3')
    ).decode()
    forged = [
        f"{version}.{other.rstrip('=')}.{mac}",
        f"{version}.{payload}.{mac[:-2]}AA",
        f"v2.{payload}.{mac}",
        f"{version}.{payload}.",
        f"{version}.{payload}",
        "",
        "é.ü.ñ",
    ]
    for value in forged:
        with pytest.raises(UnauthenticatedError):
            _verify(signer, value)


@pytest.mark.parametrize("secrets", ["", " , ", "short", f"{NEW},short"])
def test_weak_secrets_end_the_start(secrets):
    """A door that signs with nothing would let everybody in."""
    with pytest.raises(SetupError, match="IDENTITY_SECRETS"):
        IdentitySigner(secrets)
