"""The partner key that `portico run` made for trying things out, kept in its home."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.errors import SetupError

KEY_FILE = "partner-key.json"


@dataclass(frozen=True, slots=True, repr=False)
class KnownKey:
    """A key with whose it is."""

    network_id: int
    network_affiliate_id: int
    key_id: str
    key: str


def read_key(home: Path) -> KnownKey | None:
    """The key kept in `home`, or None.

    Raises:
        SetupError: the file is damaged.
    """
    file = home / KEY_FILE
    if not file.exists():
        return None
    try:
        return KnownKey(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(f"{file} cannot be read ({error}): delete it.") from error


def write_key(home: Path, known: KnownKey) -> None:
    """Keep the key for its owner's eyes only."""
    arriving = home / f"{KEY_FILE}.new"
    arriving.unlink(missing_ok=True)
    with os.fdopen(os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(asdict(known), out)
    arriving.replace(home / KEY_FILE)
