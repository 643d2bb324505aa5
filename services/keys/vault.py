"""The secrets at rest: sealed under a data key a network, these wrapped under a master key.

AES-256-GCM throughout, with a random nonce of 12 bytes before each text. What a text is bound to
(its purpose, network and key) is authenticated with it, so that a row copied over another does not
open. Whoever reads the database alone reads no secret; a master key alone opens nothing either.

Several master keys may be held, so that one can be rotated; each is known by its fingerprint, which
tells nothing of the key. A master key prints as its fingerprint.
"""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import UnavailableError
from shared.partner_key import PartnerKey

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_CHECK: Final = b"portico keys, sealed under the master key"
_FINGERPRINT_LABEL: Final = b"portico.keys.master_key.fingerprint.v1"
_FINGERPRINT_DIGITS: Final = 16


class DamagedError(Exception):
    """A sealed text does not open: it, or what it is bound to, was changed by hand."""


class MasterKey:
    """32 random bytes that wrap data keys; shows only its fingerprint.

    Args:
        raw: the bytes.

    Raises:
        ValueError: they are not 32.
    """

    __slots__ = ("_raw", "fingerprint")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._raw = raw
        self.fingerprint: Final = hmac.digest(raw, _FINGERPRINT_LABEL, "sha256").hex()[
            :_FINGERPRINT_DIGITS
        ]
        """By which it is named, 16 hexadecimal digits: a keyed hash of a label, under the key."""

    def cipher(self) -> AESGCM:
        """What wraps and unwraps with it."""
        return AESGCM(self._raw)

    def reveal(self) -> bytes:
        """The bytes themselves, for the file that keeps them and for nothing else."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MasterKey) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"MasterKey({self.fingerprint})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a master key is not serialised")


@dataclass(frozen=True, slots=True)
class DataKey:
    """A network's data key as the database keeps it.

    Attributes:
        wrapped: under a master key.
        master_key: the fingerprint of that one; empty if it was made before they were kept.
    """

    wrapped: bytes = field(repr=False)
    master_key: str


class Vault:
    """Seals and opens secrets; holds master keys and nothing else.

    Raises, where a data key is used:
        DamagedError: a text is not what was sealed for this key of this network.
        UnavailableError: this process does not hold the master key; it may be about to.
    """

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        self.hold(keys)

    def hold(self, keys: Sequence[MasterKey]) -> None:
        """Hold these master keys, and no others."""
        self._ciphers = {key.fingerprint: key.cipher() for key in keys}

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Of the master keys held, in their order."""
        return tuple(self._ciphers)

    def new_data_key(self, network_id: int, under: str) -> DataKey:
        """A data key for a network, wrapped under the master key of that fingerprint."""
        return self._wrap(os.urandom(KEY_BYTES), network_id, under)

    def rewrapped(self, data_key: DataKey, network_id: int, under: str) -> DataKey:
        """The same data key, wrapped under another master key."""
        return self._wrap(self._unwrapped(data_key, network_id), network_id, under)

    def require_opens(self, data_key: DataKey, network_id: int) -> None:
        """Let pass a data key that opens under the master key that it names."""
        self._unwrapped(data_key, network_id)

    def seal(self, data_key: DataKey, network_id: int, key_id: str, secret: PartnerKey) -> bytes:
        """`secret` for the database, under the network's data key."""
        cipher = AESGCM(self._unwrapped(data_key, network_id))
        return _sealed(cipher, secret.reveal().encode(), _of_key(network_id, key_id))

    def open(self, data_key: DataKey, network_id: int, key_id: str, sealed: bytes) -> PartnerKey:
        """The secret in `sealed`."""
        cipher = AESGCM(self._unwrapped(data_key, network_id))
        opened = _opened(cipher, sealed, _of_key(network_id, key_id), f"the secret of {key_id}")
        return PartnerKey(opened.decode())

    def new_check(self, under: str) -> bytes:
        """What `opens_check` recognises the master key of that fingerprint by."""
        return _sealed(self._cipher(under), _CHECK, b"portico.keys.check.v1")

    def opener_of(self, check: bytes) -> str | None:
        """The fingerprint of the held master key under which `check` was made; None: of none."""
        for fingerprint, cipher in self._ciphers.items():
            try:
                _opened(cipher, check, b"portico.keys.check.v1", "the check")
            except DamagedError:
                continue
            return fingerprint
        return None

    def _wrap(self, raw: bytes, network_id: int, under: str) -> DataKey:
        return DataKey(_sealed(self._cipher(under), raw, _of_network(network_id)), under)

    def _unwrapped(self, data_key: DataKey, network_id: int) -> bytes:
        name = f"the data key of network {network_id}"
        if data_key.master_key:
            cipher = self._cipher(data_key.master_key)
            return _opened(cipher, data_key.wrapped, _of_network(network_id), name)
        for cipher in self._ciphers.values():
            try:
                return _opened(cipher, data_key.wrapped, _of_network(network_id), name)
            except DamagedError:
                continue
        raise DamagedError(f"{name} opens under no master key held")

    def _cipher(self, fingerprint: str) -> AESGCM:
        cipher = self._ciphers.get(fingerprint)
        if cipher is None:
            raise UnavailableError("This process does not hold the master key of the secret yet.")
        return cipher


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
