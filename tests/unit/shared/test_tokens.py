"""Protects who a token speaks for: only the issuer's own signatures count, and only for a while."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from shared.clock import ManualClock
from shared.config import TokenSettings
from shared.errors import ForbiddenError, SetupError, UnauthenticatedError, UnavailableError
from shared.tokens import KEYS_AGE_SECONDS_MAX, Caller, TokenVerifier, issue_token

STAFF = Caller(
    subject="staff-1",
    name="Ada",
    network_id=7,
    permissions=frozenset({"security:full"}),
    is_super_user=True,
    behind="root-9",
)
PARTNER = Caller(subject="user-2", network_id=7, network_affiliate_id=70)

KEYS = {
    "EdDSA": (Ed25519PrivateKey.generate(), jwt.algorithms.OKPAlgorithm),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm),
    "RS256": (rsa.generate_private_key(65537, 2048), jwt.algorithms.RSAAlgorithm),
}


def pem(algorithm):
    return KEYS[algorithm][0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def entry(algorithm, key_id=None):
    private, maker = KEYS[algorithm]
    return maker.to_jwk(private.public_key(), as_dict=True) | {
        "kid": key_id or algorithm,
        "alg": algorithm,
        "use": "sig",
    }


@pytest.fixture
def key_set(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [entry(algorithm) for algorithm in KEYS]}))
    return file


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def verifier(key_set, clock):
    return TokenVerifier(TokenSettings(jwt_jwks=str(key_set)), clock)


def token(caller=STAFF, algorithm="EdDSA", **changes):
    options = {
        "key_id": algorithm,
        "issuer": "portico-local",
        "audience": "portico",
        "now": time.time(),
        "algorithm": algorithm,
    } | changes
    return issue_token(pem(algorithm), caller, **options)


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("caller", [STAFF, PARTNER])
async def test_a_token_speaks_for_exactly_whom_it_was_issued_for(verifier, caller, algorithm):
    """Every claim arrives, under each signature the platform takes."""
    assert await verifier.verify(f"Bearer {token(caller, algorithm)}") == caller


@pytest.mark.parametrize("header", [None, ""])
async def test_no_token_is_told_apart_from_a_bad_one(verifier, header):
    """The wire has a text of its own for a request without any proof."""
    with pytest.raises(UnauthenticatedError, match="No Authentication Method Found"):
        await verifier.verify(header)


@pytest.mark.parametrize(
    "changes",
    [
        {"now": time.time() - 3_640},
        {"issuer": "somebody-else"},
        {"audience": "another-platform"},
        {"key_id": "unknown"},
        {"key_id": "ES256"},
    ],
    ids=["expired", "issuer", "audience", "unknown key", "another key's id"],
)
async def test_a_token_that_is_not_for_us_and_now_is_refused(verifier, changes):
    """Beyond 30 seconds of leeway nothing is forgiven."""
    with pytest.raises(UnauthenticatedError, match="Unable to authenticate"):
        await verifier.verify(f"Bearer {token(**changes)}")


async def test_clocks_may_differ_by_half_a_minute(verifier):
    """A token that ended 10 s ago by our clock still counts."""
    assert await verifier.verify(f"Bearer {token(now=time.time() - 3_610)}") == STAFF


@pytest.mark.parametrize(
    "header", ["Basic abc", "Bearer", "Bearer ", "Bearer x.y.z", "Bearer " + "a" * 20_000]
)
async def test_what_is_no_bearer_token_is_refused(verifier, header):
    """Whatever a stranger sends, the answer is 401 and not a crash."""
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(header)


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_the_public_key_used_as_a_shared_secret_forges_nothing(verifier):
    """The classic confusion: an HS256 token whose secret is the issuer's public key."""
    public = KEYS["RS256"][0].public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = jwt.decode(token(), options={"verify_signature": False})
    for algorithm in ("HS256", "none"):
        signed = f"{encoded({'alg': algorithm, 'kid': 'RS256', 'typ': 'JWT'})}.{encoded(body)}"
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        for end in (signature, ""):
            with pytest.raises(UnauthenticatedError):
                await verifier.verify(f"Bearer {signed}.{end}")


async def test_a_tampered_claim_is_refused(verifier):
    """Nobody raises their own permissions."""
    head, body, signature = token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = f"{head}.{encoded(claims | {'network': 8})}.{signature}"
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(f"Bearer {forged}")


async def test_a_shared_secret_in_the_key_set_is_never_used(key_set, verifier):
    """A symmetric entry must not become a way in."""
    secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    key_set.write_text(json.dumps({"keys": [{"kty": "oct", "k": secret, "kid": "oct"}]}))
    signed = jwt.encode({"sub": "x"}, "s" * 32, algorithm="HS256", headers={"kid": "oct"})
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(f"Bearer {signed}")


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "sub"])
async def test_a_token_must_say_whose_for_whom_from_whom_and_until_when(verifier, missing):
    """A signature alone proves too little."""
    body = jwt.decode(token(), options={"verify_signature": False})
    del body[missing]
    signed = jwt.encode(body, pem("EdDSA"), algorithm="EdDSA", headers={"kid": "EdDSA"})
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(f"Bearer {signed}")


async def test_a_new_signing_key_is_found_without_a_restart(key_set, verifier, clock):
    """The issuer rolls its key over; unknown ids cause at most one reading in ten seconds."""
    await verifier.verify(f"Bearer {token()}")
    key_set.write_text(json.dumps({"keys": [entry("ES256", "new")]}))
    rolled = token(algorithm="ES256", key_id="new")
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(f"Bearer {rolled}")
    clock.advance(10)
    assert await verifier.verify(f"Bearer {rolled}") == STAFF


async def test_a_withdrawn_signing_key_stops_working(key_set, verifier, clock):
    """A key set is believed for ten minutes, then read anew."""
    await verifier.verify(f"Bearer {token()}")
    key_set.write_text(json.dumps({"keys": [entry("ES256")]}))
    clock.advance(601)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(f"Bearer {token()}")


async def test_an_unreadable_key_set_is_our_trouble_not_the_callers(key_set, verifier, clock):
    """Known keys outlive an outage of the issuer by an hour; then nobody can be told apart."""
    await verifier.verify(f"Bearer {token()}")
    key_set.write_text("{")
    clock.advance(700)
    assert await verifier.verify(f"Bearer {token()}") == STAFF
    clock.advance(KEYS_AGE_SECONDS_MAX)
    with pytest.raises(UnavailableError):
        await verifier.verify(f"Bearer {token()}")


def test_keys_over_plain_http_are_refused():
    """Whoever sits between could hand us keys of their own."""
    with pytest.raises(SetupError, match="JWT_JWKS"):
        TokenVerifier(TokenSettings(jwt_jwks="http://issuer.example/jwks"))


def test_one_of_several_permissions_is_enough_and_none_is_not():
    """The rule of every staff route."""
    STAFF.require_any(["accounts_history:full", "security:full"])
    with pytest.raises(ForbiddenError):
        PARTNER.require_any(["accounts_history:full", "security:full"])


def test_staff_are_told_apart_from_partners_and_operators():
    """Only the staff of a network may act for it."""
    assert [caller.is_staff for caller in (STAFF, PARTNER, Caller(subject="ops"))] == [
        True,
        False,
        False,
    ]
