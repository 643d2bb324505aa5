"""The secrets of the local platform, made once, each in a file that only its owner may read."""

import base64
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

TOKEN_KEY_ID = "local"  # noqa: S105 - a name, no secret


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """What the services share or keep; contents only where a setting takes no file."""

    identity: str
    """With which the gateway signs who is calling."""
    master_key: Path
    """32 random bytes in base64, which wrap the key service's data keys."""
    token_key: Path
    """Ed25519 private key in PEM, with which `portico token` signs tokens (EdDSA)."""
    jwks: Path
    """The public half as a JSON Web Key Set, key id `local`, for those who verify tokens."""
    audit_key: Path
    """Ed25519 private key in PEM, with which audit signs checkpoints."""


def ensure(folder: Path) -> Secrets:
    """The secrets in `folder`; those that are missing are made."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = _kept(folder / "identity", _random)
    token_key = _kept(folder / "staff.pem", _private_key)
    return Secrets(
        identity=identity.read_text(),
        master_key=_kept(folder / "master-key", _random),
        token_key=token_key,
        jwks=_kept(folder / "jwks.json", lambda: _key_set(token_key)),
        audit_key=_kept(folder / "audit.pem", _private_key),
    )


def _kept(file: Path, make: Callable[[], str]) -> Path:
    if not file.exists():
        arriving = file.with_suffix(".new")
        arriving.unlink(missing_ok=True)
        with os.fdopen(os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(make())
        arriving.replace(file)
    return file


def _random() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _private_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _key_set(token_key: Path) -> str:
    key = load_pem_private_key(token_key.read_bytes(), password=None)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = base64.urlsafe_b64encode(public).decode().rstrip("=")
    names = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": TOKEN_KEY_ID}
    return json.dumps({"keys": [names | {"x": x}]}, indent=2)
