"""Signed checkpoints: how they are made, read back and kept in files outside the database.

A checkpoint says "the chain of this network had this hash at this sequence", signed with Ed25519.
`Journal` appends them to one file a network, `<folder>/<network>.jsonl`, a JSON line each, on disk
before `append` returns. A line that a crash cut short was never confirmed: readers leave it out and
the next append removes it.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from services.audit import chain
from shared.errors import SetupError, UnavailableError
from shared.events import Checkpoint, decode, encode

_KEY_ID_LENGTH: Final = 16
_TAIL_BYTES: Final = 16 * 1024
"""How much of a file's end is read to find its last line; a line has about 300 bytes."""
_FILE: Final = re.compile(r"(\d+)\.jsonl")


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a signing key: the start of the SHA-256 of its public half, hex."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:_KEY_ID_LENGTH]


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 private key in a PEM file.

    Raises:
        SetupError: the file cannot be read, or holds something else.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SetupError(
            f"AUDIT_SIGNING_KEY_FILE: {path} is no readable PEM private key ({error}). "
            "Make one with `openssl genpkey -algorithm ed25519`."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SetupError(f"AUDIT_SIGNING_KEY_FILE: {path} holds a key that is not Ed25519.")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key in a PEM file that holds it, or the private key it belongs to.

    Raises:
        SetupError: the file cannot be read, or holds neither.
    """
    try:
        pem = path.read_bytes()
        if b"PRIVATE KEY" in pem:
            return load_signing_key(path).public_key()
        key = load_pem_public_key(pem)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SetupError(f"{path} is no readable PEM key ({error}).") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SetupError(f"{path} holds a key that is not Ed25519.")
    return key


def _signed_bytes(checkpoint: Checkpoint) -> bytes:
    fields: dict[str, Any] = {
        "network_id": checkpoint.network_id,
        "sequence": checkpoint.sequence,
        "hash": checkpoint.hash,
        "occurred_at": checkpoint.occurred_at,
        "key": checkpoint.key,
    }
    return chain.canonical(fields).encode()


class Signer:
    """Makes checkpoints with one key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._key_id = key_id(key.public_key())

    def sign(self, network_id: int, head: chain.Head, *, now: float) -> Checkpoint:
        """The checkpoint of a chain whose head is `head`, signed at `now`."""
        unsigned = Checkpoint(
            network_id=network_id,
            sequence=head.sequence,
            hash=head.hash,
            occurred_at=now,
            key=self._key_id,
            signature="",
        )
        signature = base64.b64encode(self._key.sign(_signed_bytes(unsigned))).decode()
        return Checkpoint(
            network_id=unsigned.network_id,
            sequence=unsigned.sequence,
            hash=unsigned.hash,
            occurred_at=unsigned.occurred_at,
            key=unsigned.key,
            signature=signature,
        )


def is_genuine(checkpoint: Checkpoint, key: Ed25519PublicKey) -> bool:
    """Whether `checkpoint` was signed with the private half of `key`."""
    try:
        key.verify(base64.b64decode(checkpoint.signature), _signed_bytes(checkpoint))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def vouched(
    checkpoints: Sequence[Checkpoint], network_id: int, key: Ed25519PublicKey
) -> tuple[list[chain.Mark], chain.Problem | None]:
    """What the genuine checkpoints of a network vouch for, and the first that is not genuine.

    One is not when it is signed with another key or for another network, or contradicts an earlier
    one: somebody changed the file, or `key` is not the key that signs.
    """
    found: dict[int, str] = {}
    problem: chain.Problem | None = None
    for checkpoint in checkpoints:
        reason = _objection(checkpoint, network_id, key, found)
        if reason is None:
            found[checkpoint.sequence] = checkpoint.hash
        elif problem is None:
            detail = f"Checkpoint of entry {checkpoint.sequence}: {reason}."
            problem = chain.Problem("forged", checkpoint.sequence, detail)
    return [chain.Mark(sequence, digest) for sequence, digest in found.items()], problem


def _objection(
    checkpoint: Checkpoint, network_id: int, key: Ed25519PublicKey, earlier: Mapping[int, str]
) -> str | None:
    if checkpoint.network_id != network_id:
        return f"it is of network {checkpoint.network_id}"
    if not is_genuine(checkpoint, key):
        return f"it names key {checkpoint.key} and was not signed with key {key_id(key)}"
    if earlier.get(checkpoint.sequence, checkpoint.hash) != checkpoint.hash:
        return "another checkpoint of the same entry has another hash"
    return None


class Journal:
    """The checkpoint files of a folder. Calls block for a disk write; run them in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            SetupError: it cannot be made.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"AUDIT_CHECKPOINT_DIR: {self._folder}: {error}") from error

    def networks(self) -> list[int]:
        """The networks that have checkpoints, sorted."""
        if not self._folder.is_dir():
            return []
        names = (_FILE.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def read(self, network_id: int) -> list[Checkpoint]:
        """A network's checkpoints, oldest first; their signatures are not checked here.

        Raises:
            InvalidError: a line is no checkpoint.
        """
        try:
            lines = self._path(network_id).read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnavailableError(f"reading checkpoints: {error}") from error
        return [decode(Checkpoint, line) for line in lines]

    def last(self, network_id: int) -> Checkpoint | None:
        """A network's latest checkpoint, or None; its signature is not checked here.

        Raises:
            InvalidError: the last line is no checkpoint.
        """
        try:
            lines = _tail_lines(self._path(network_id))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"reading checkpoints: {error}") from error
        return decode(Checkpoint, lines[-1]) if lines else None

    def append(self, checkpoint: Checkpoint) -> None:
        """Keep `checkpoint`; it is on disk when this returns.

        Raises:
            UnavailableError: the disk refused.
        """
        path = self._path(checkpoint.network_id)
        try:
            is_new = not path.exists()
            with path.open("ab") as file:
                file.truncate(_whole_length(path))
                file.write(encode(checkpoint) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                self._sync_folder()
        except OSError as error:
            raise UnavailableError(f"writing a checkpoint to {path}: {error}") from error

    def _path(self, network_id: int) -> Path:
        return self._folder / f"{network_id}.jsonl"

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _whole_length(path: Path) -> int:
    """The length of the file without a last line that a crash cut short, in bytes."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, end - _TAIL_BYTES))
        tail = file.read()
    cut = len(tail) - (tail.rfind(b"\n") + 1)
    return end - cut if cut < len(tail) else start


def _tail_lines(path: Path) -> list[bytes]:
    """The last whole lines of the file, oldest first."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, end - _TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    return lines[1:] if start else lines
