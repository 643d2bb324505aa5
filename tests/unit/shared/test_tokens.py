"""Protects who a token speaks for: only the issuer's own signatures count, and only for a while."""

import base64
import hashlib
import hmac
import json

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
from shared.issuer_keys import AGE_SECONDS_MAX
from shared.tokens import Caller, TokenVerifier, issue_token

NOW = 1_767_225_600.0

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
    return ManualClock(NOW)


@pytest.fixture
def verifier(key_set, clock):
    return TokenVerifier(TokenSettings(jwt_jwks=str(key_set)), clock)


def token(caller=STAFF, algorithm="EdDSA", **changes):
    options = {
        "key_id": algorithm,
        "issuer": "portico-local",
        "audience": "portico",
        "now": NOW,
        "algorithm": algorithm,
    } | changes
    return issue_token(pem(algorithm), caller, **options)


def with_claims(headers=None, algorithm="EdDSA", **claims):
    """A token that the issuer really signed, with other claims or headers than usual."""
    body = jwt.decode(token(), options={"verify_signature": False}) | claims
    kept = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(
        kept, pem(algorithm), algorithm=algorithm, headers={"kid": algorithm} | (headers or {})
    )


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
        {"now": NOW - 3_640},
        {"issuer": "somebody-else"},
        {"audience": "another-platform"},
        {"key_id": "unknown"},
        {"key_id": "ES256"},
        {"key_id": "RS256", "algorithm": "ES256"},
        {"now": NOW + 40},
    ],
    ids=["expired", "issuer", "audience", "unknown", "another's id", "another kind's id", "early"],
)
async def test_a_token_that_is_not_for_us_and_now_is_refused(verifier, changes):
    """Beyond 30 seconds of leeway nothing is forgiven."""
    with pytest.raises(UnauthenticatedError, match="Unable to authenticate"):
        await verifier.verify(f"Bearer {token(**changes)}")


@pytest.mark.parametrize(
    ("claim", "counts", "refused"),
    [("exp", NOW - 29, NOW - 30), ("nbf", NOW + 30, NOW + 31), ("iat", NOW + 30, NOW + 31)],
)
async def test_clocks_may_differ_by_half_a_minute(verifier, claim, counts, refused):
    """And by nothing more, at either end of a token's life."""
    assert await verifier.verify(f"Bearer {with_claims(**{claim: counts})}") == STAFF
    with pytest.raises(UnauthenticatedError, match=r"expired|not valid yet"):
        await verifier.verify(f"Bearer {with_claims(**{claim: refused})}")


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
    with pytest.raises(UnauthenticatedError, match=missing):
        await verifier.verify(f"Bearer {with_claims(**{missing: None})}")


@pytest.mark.parametrize(
    "claims",
    [
        {"super_user": "true"},
        {"super_user": 1},
        {"exp": "4102444800"},
        {"exp": True},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\x00b"},
        {"sub": "a\n"},
        {"sub": "a" * 256},
        {"name": "Ada\nEve"},
        {"network": "7"},
        {"network": -1},
        {"network": 7.5},
        {"partner": 2**53},
        {"permissions": "security:full"},
        {"permissions": [["security:full"]]},
        {"roles": {"manager": True}},
        {"act": "root"},
        {"act": {"sub": ""}},
    ],
    ids=str,
)
async def test_a_claim_of_another_type_is_refused_not_guessed(verifier, claims):
    """`"true"` is not true; what the trail keeps is text of one line."""
    with pytest.raises(UnauthenticatedError, match="its claims are wrong"):
        await verifier.verify(f"Bearer {with_claims(**claims)}")


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff", b'{"sub": "\\ud800"}', b"NaN"])
async def test_a_signed_payload_that_is_no_set_of_claims_is_refused(verifier, payload):
    """Whatever an issuer signs by mistake, the answer is 401 and not a crash."""
    signed = jwt.PyJWS().encode(payload, pem("EdDSA"), "EdDSA", headers={"kid": "EdDSA"})
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(f"Bearer {signed}")


async def test_one_audience_of_several_is_enough(verifier):
    """Issuers name all services that a token is for."""
    assert await verifier.verify(f"Bearer {with_claims(aud=['crm', 'portico'])}") == STAFF
    with pytest.raises(UnauthenticatedError, match="another audience"):
        await verifier.verify(f"Bearer {with_claims(aud=['crm', 'portico-test'])}")


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c"])
async def test_a_token_cannot_bring_its_own_key(verifier, name):
    """A forger's key in the header, or where to find it, is not looked at."""
    forger = Ed25519PrivateKey.generate()
    own = jwt.algorithms.OKPAlgorithm.to_jwk(forger.public_key(), as_dict=True)
    brought = {"jku": "https://forger.example/jwks", "jwk": own, "x5u": "https://x", "x5c": ["x"]}
    body = jwt.decode(token(), options={"verify_signature": False})
    headers = {"kid": "EdDSA", name: brought[name]}
    forged = jwt.encode(body, forger, algorithm="EdDSA", headers=headers)
    with pytest.raises(UnauthenticatedError, match="Signature verification failed"):
        await verifier.verify(f"Bearer {forged}")
    assert await verifier.verify(f"Bearer {with_claims({name: brought[name]})}") == STAFF


@pytest.mark.parametrize("headers", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"kid": None}])
async def test_a_header_that_demands_what_we_do_not_know_is_refused(verifier, headers):
    """RFC 7515: who does not understand a critical header refuses the token."""
    body = base64.urlsafe_b64encode(b"{}").rstrip(b"=").decode()
    head = encoded({"alg": "EdDSA", "kid": "EdDSA"} | headers)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(f"Bearer {head}.{body}.{body}")


@pytest.mark.parametrize("algorithm", ["HS256", "none", "PS256", "ES384", "RS1", "eddsa", "", 7])
async def test_no_other_algorithm_counts(verifier, algorithm):
    """Whatever the key set holds: the list is ours."""
    head = encoded({"alg": algorithm, "kid": "RS256"})
    with pytest.raises(UnauthenticatedError, match="use one of RS256, ES256, EdDSA"):
        await verifier.verify(f"Bearer {head}.e30.e30")


@pytest.fixture
def trusting(tmp_path, clock):
    """A verifier that knows exactly the given keys, as an issuer publishes them."""

    def verifier(*entries):
        file = tmp_path / "given.json"
        file.write_text(json.dumps({"keys": list(entries)}))
        return TokenVerifier(TokenSettings(jwt_jwks=str(file)), clock)

    return verifier


async def test_two_keys_of_one_name_are_told_apart_by_their_kind(trusting):
    """And if they are of one kind too, neither counts: nobody could say which is meant."""
    one = trusting(*(entry(algorithm, "same") for algorithm in KEYS))
    for algorithm in KEYS:
        found = await one.verify(f"Bearer {token(algorithm=algorithm, key_id='same')}")
        assert found == STAFF
    other = Ed25519PrivateKey.generate().public_key()
    twin = jwt.algorithms.OKPAlgorithm.to_jwk(other, as_dict=True) | {"kid": "EdDSA"}
    two = trusting(entry("EdDSA"), twin, entry("ES256"))
    with pytest.raises(UnauthenticatedError, match="no such key"):
        await two.verify(f"Bearer {token()}")
    assert await two.verify(f"Bearer {token(algorithm='ES256')}") == STAFF


def weak():
    """An RSA key of 1,024 bits, which can be broken."""
    key = rsa.generate_private_key(65537, 1024)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return text, public | {"kid": "weak", "alg": "RS256"}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_short_rsa_key_is_not_believed(trusting, caplog):
    """It is left out and told, and the other keys go on."""
    private, public = weak()
    verifier = trusting(public, entry("RS256"))
    signed = issue_token(
        private,
        STAFF,
        key_id="weak",
        issuer="portico-local",
        audience="portico",
        now=NOW,
        algorithm="RS256",
    )
    with pytest.raises(UnauthenticatedError, match="no such key"):
        await verifier.verify(f"Bearer {signed}")
    assert await verifier.verify(f"Bearer {token(algorithm='RS256')}") == STAFF
    (told,) = [record for record in caplog.records if record.getMessage() == "token key left out"]
    assert (told.key_id, told.reason) == ("weak", "RSA below 2048 bits")


@pytest.mark.parametrize(
    "change",
    [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "HS256"}, {"alg": "ES384"}, {"crv": "P-9"}],
    ids=str,
)
async def test_a_key_for_another_purpose_is_not_used(trusting, change):
    """For encryption, for another algorithm, or of a kind that we do not know."""
    verifier = trusting(entry("ES256") | change, entry("EdDSA"))
    with pytest.raises(UnauthenticatedError, match="no such key"):
        await verifier.verify(f"Bearer {token(algorithm='ES256')}")
    assert await verifier.verify(f"Bearer {token()}") == STAFF


async def test_a_private_key_in_the_key_set_is_not_used(trusting):
    """Whoever can read the set could sign with it."""
    private = jwt.algorithms.OKPAlgorithm.to_jwk(KEYS["EdDSA"][0], as_dict=True)
    assert "d" in private
    verifier = trusting(private | {"kid": "EdDSA"})
    with pytest.raises(UnauthenticatedError, match="no such key"):
        await verifier.verify(f"Bearer {token()}")


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
    assert await verifier.verify(f"Bearer {token(now=clock.time())}") == STAFF
    clock.advance(AGE_SECONDS_MAX)
    with pytest.raises(UnavailableError):
        await verifier.verify(f"Bearer {token(now=clock.time())}")


@pytest.mark.parametrize("source", ["http://issuer.example/jwks", "HTTP://x", "ftp://x/jwks"])
def test_keys_over_plain_http_are_refused(source):
    """Whoever sits between could hand us keys of their own."""
    with pytest.raises(SetupError, match="JWT_JWKS"):
        TokenVerifier(TokenSettings(jwt_jwks=source))


ROLES = json.dumps(
    {
        "*": {"manager": ["security:full"], "auditor": ["security:read", "audit:read"]},
        "7": {"manager": ["accounts_history:read"], "intern": []},
        "8": {"auditor": []},
        "0": {"operator": ["audit:read"]},
    }
)


@pytest.mark.parametrize(
    ("claims", "permissions"),
    [
        ({"network": 7, "roles": ["manager"]}, ["accounts_history:read"]),
        ({"network": 9, "roles": ["manager"]}, ["security:full"]),
        ({"network": 7, "roles": ["auditor"]}, ["audit:read", "security:read"]),
        ({"network": 8, "roles": ["auditor"]}, []),
        (
            {"network": 9, "roles": ["manager", "auditor"]},
            ["audit:read", "security:full", "security:read"],
        ),
        ({"network": 9, "roles": ["Manager", "root", "*", ""]}, []),
        ({"network": 0, "roles": ["manager", "auditor"]}, []),
        ({"network": 0, "roles": ["operator"]}, ["audit:read"]),
        ({"network": 9, "roles": ["operator"]}, []),
        ({"network": 9, "partner": 70, "roles": ["manager"]}, []),
        (
            {"network": 9, "roles": ["auditor"], "permissions": ["security:full"]},
            ["audit:read", "security:full", "security:read"],
        ),
        (
            {"network": 9, "permissions": ["security:full", "security:*", "super_user", "root"]},
            ["security:full"],
        ),
    ],
    ids=str,
)
async def test_a_role_carries_what_its_network_says(key_set, clock, claims, permissions):
    """What `*` says holds where the network says nothing; partners and unknown words get nothing."""
    verifier = TokenVerifier(TokenSettings(jwt_jwks=str(key_set), jwt_roles=ROLES), clock)
    bare = {"permissions": None, "super_user": None, "act": None, "partner": 0} | claims
    caller = await verifier.verify(f"Bearer {with_claims(**bare)}")
    assert (sorted(caller.permissions), caller.is_super_user) == (permissions, False)


async def test_without_a_table_roles_carry_nothing(verifier):
    """Permissions are then by claim alone."""
    caller = await verifier.verify(f"Bearer {with_claims(roles=['manager'], permissions=None)}")
    assert caller.permissions == frozenset()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            '{"*": {"a": ["security:ful"]}}',
            "role 'a' of network \\*: 'security:ful' is no permission",
        ),
        ('{"*": {"a": ["super_user"]}}', "'super_user' is no permission"),
        ('{"all": {"a": []}}', "'all' is no network"),
        ('{"07": {"a": []}}', "'07' is no network"),
        ('{"-1": {"a": []}}', "'-1' is no network"),
        ('{"*": {"a": "security:full"}}', "Expected `array`"),
        ('{"*": ["a"]}', "Expected `object`"),
        ('{"*": ', "truncated"),
        ("missing.json", "missing.json cannot be read: No such file"),
    ],
)
def test_a_wrong_table_of_roles_fails_at_the_start(table, told):
    """One line that names the setting and the place."""
    with pytest.raises(SetupError, match=f"^JWT_ROLES: .*{told}"):
        TokenVerifier(TokenSettings(jwt_jwks="jwks.json", jwt_roles=table))


def test_the_table_of_roles_may_be_a_file(tmp_path):
    """For mappings too long for a variable; one that is no table is refused alike."""
    file = tmp_path / "roles.json"
    file.write_text(ROLES)
    TokenVerifier(TokenSettings(jwt_jwks="jwks.json", jwt_roles=str(file)))
    file.write_bytes(b"\xff")
    with pytest.raises(SetupError, match=r"JWT_ROLES: .*not text"):
        TokenVerifier(TokenSettings(jwt_jwks="jwks.json", jwt_roles=str(file)))


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
