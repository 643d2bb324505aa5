"""The secrets at rest: sealed under a data key a network, these wrapped under the master key.

AES-256-GCM throughout, with a random nonce of 12 bytes before each text. What a text is bound to
(its purpose, network and key) is authenticated with it, so that a row copied over another does not
open. Whoever reads the database alone reads no secret; the master key alone opens nothing either.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import SetupError
from shared.partner_key import PartnerKey

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_CHECK: Final = b"portico keys, sealed under the master key"


class DamagedError(Exception):
    """A sealed text does not open: it, or what it is bound to, was changed by hand."""


def load_master_key(text: str | None, file: Path | None) -> bytes:
    """The master key, from the setting or the file, whichever is given.

    Raises:
        SetupError: none or both are given, the file cannot be read, or it is not 32 bytes.
    """
    if (text is None) == (file is None):
        raise SetupError(
            "KEYS_MASTER_KEY or KEYS_MASTER_KEY_FILE: give exactly one, 32 random bytes in base64 "
            "(`head -c 32 /dev/urandom | base64`). Lost, it takes all secrets with it."
        )
    if file is not None:
        return _decoded("KEYS_MASTER_KEY_FILE", _contents(file))
    return _decoded("KEYS_MASTER_KEY", text or "")


def _contents(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SetupError(f"KEYS_MASTER_KEY_FILE: {file} cannot be read: {reason}.") from error


def _decoded(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SetupError(f"{name}: needs {KEY_BYTES} bytes in base64, which it is not.")
    return key


class Vault:
    """Seals and opens secrets; holds the master key and nothing else."""

    def __init__(self, master_key: bytes) -> None:
        self._master = AESGCM(master_key)

    def new_data_key(self, network_id: int) -> bytes:
        """A data key for a network, wrapped for the database."""
        return _sealed(self._master, os.urandom(KEY_BYTES), _of_network(network_id))

    def seal(self, wrapped: bytes, network_id: int, key_id: str, secret: PartnerKey) -> bytes:
        """`secret` for the database, under the network's data key."""
        data_key = self._unwrapped(wrapped, network_id)
        return _sealed(data_key, secret.reveal().encode(), _of_key(network_id, key_id))

    def open(self, wrapped: bytes, network_id: int, key_id: str, sealed: bytes) -> PartnerKey:
        """The secret in `sealed`.

        Raises:
            DamagedError: it is not what was sealed for this key of this network.
        """
        data_key = self._unwrapped(wrapped, network_id)
        opened = _opened(data_key, sealed, _of_key(network_id, key_id), f"the secret of {key_id}")
        return PartnerKey(opened.decode())

    def new_check(self) -> bytes:
        """What `require_same_key` recognises the master key by."""
        return _sealed(self._master, _CHECK, b"portico.keys.check.v1")

    def require_same_key(self, check: bytes) -> None:
        """Let pass the master key under which `check` was made.

        Raises:
            SetupError: it is another.
        """
        try:
            _opened(self._master, check, b"portico.keys.check.v1", "the check")
        except DamagedError as error:
            raise SetupError(
                "KEYS_MASTER_KEY: the secrets in this database are sealed under another key. "
                "Set the one they were sealed under, or use another schema (KEYS_DB_SCHEMA)."
            ) from error

    def _unwrapped(self, wrapped: bytes, network_id: int) -> AESGCM:
        name = f"the data key of network {network_id}"
        return AESGCM(_opened(self._master, wrapped, _of_network(network_id), name))


def _sealed(key: AESGCM, text: bytes, bound_to: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, text, bound_to)


def _opened(key: AESGCM, sealed: bytes, bound_to: bytes, name: str) -> bytes:
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError) as error:
        raise DamagedError(f"{name} does not open: its row was changed by hand") from error


def _of_network(network_id: int) -> bytes:
    return b"portico.keys.data_key.v1|%d" % network_id


def _of_key(network_id: int, key_id: str) -> bytes:
    return b"portico.keys.secret.v1|%d|%s" % (network_id, key_id.encode())
