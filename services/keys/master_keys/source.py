"""Where the master keys come from: a setting, or a file that may change while the service runs.

Either holds one key or several, each 32 random bytes in base64, separated by commas or white space.
The first is the one that a rotation moves to; all of them open. No message repeats any of them.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from services.keys.vault import KEY_BYTES, MasterKey
from shared.errors import SetupError

KEYS_MAX: Final = 16
_SETTING: Final = "KEYS_MASTER_KEY"
_FILE_SETTING: Final = "KEYS_MASTER_KEY_FILE"


class Source:
    """The setting or the file, whichever is given.

    Raises:
        SetupError: none or both are given.
    """

    def __init__(self, text: SecretStr | None, file: Path | None) -> None:
        if (text is None) == (file is None):
            raise SetupError(
                f"{_SETTING} or {_FILE_SETTING}: give exactly one, 32 random bytes in base64 "
                "(`head -c 32 /dev/urandom | base64`). Lost, it takes all secrets with it."
            )
        self._text = text
        self.file = file
        self.name = _SETTING if file is None else _FILE_SETTING

    def read(self) -> tuple[MasterKey, ...]:
        """The master keys as they stand there now, each once, in their order.

        Raises:
            SetupError: the file cannot be read, there is no key, or one is not 32 bytes in base64.
        """
        entries = self._contents().replace(",", " ").split()
        if not 1 <= len(entries) <= KEYS_MAX:
            raise SetupError(
                f"{self.name}: holds {len(entries)} master keys; give 1 to {KEYS_MAX}."
            )
        return tuple(dict.fromkeys(self._key(place, text) for place, text in enumerate(entries, 1)))

    def prepend(self, key: MasterKey) -> None:
        """Make `key` the first of the file, atomically, for its owner's eyes only.

        Raises:
            SetupError: the keys come from no file, or it cannot be written.
        """
        self._write([key, *self.read()])

    def keep(self, keys: Sequence[MasterKey]) -> None:
        """Make `keys` the contents of the file, atomically, for its owner's eyes only.

        Raises:
            SetupError: the keys come from no file, or it cannot be written.
        """
        self._write(keys)

    def _contents(self) -> str:
        if self.file is None:
            return self._text.get_secret_value() if self._text else ""
        try:
            return self.file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise SetupError(f"{self.name}: {self.file} cannot be read: {reason}.") from error

    def _key(self, place: int, text: str) -> MasterKey:
        try:
            return MasterKey(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            raise SetupError(
                f"{self.name}: master key {place} is not {KEY_BYTES} bytes in base64."
            ) from error

    def _write(self, keys: Iterable[MasterKey]) -> None:
        if self.file is None:
            raise SetupError(
                f"{_SETTING} is no file: change it where it is set, or use {_FILE_SETTING}."
            )
        lines = [base64.b64encode(key.reveal()).decode() for key in keys]
        arriving = self.file.with_name(f"{self.file.name}.new")
        try:
            arriving.unlink(missing_ok=True)
            descriptor = os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as out:
                out.write("\n".join(lines) + "\n")
                out.flush()
                os.fsync(out.fileno())
            arriving.replace(self.file)
            _settle(self.file.parent)
        except OSError as error:
            raise SetupError(
                f"{self.name}: {self.file} cannot be written: {error.strerror}. "
                "Change it where your platform keeps it."
            ) from error


def _settle(folder: Path) -> None:
    """Have a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
