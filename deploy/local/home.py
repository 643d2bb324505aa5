"""The folder of one run: locked while it runs, emptied by `make reset`.

`python -m deploy.local.home` forgets its data, logs and secrets, but not Kafka's jars.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.config import StackSettings
from shared.config import load
from shared.errors import SetupError

LOCK = "portico.lock"
CONTENTS = (
    "checkpoints",
    "clickhouse",
    "endpoints.json",
    "faust",
    "kafka",
    "logs",
    "partner-key.json",
    "postgres",
    "secrets",
    "simulator",
)
"""What a run keeps in its folder; nothing else there is ever deleted."""


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold `home` for this process alone; a process that dies lets go.

    Raises:
        SetupError: another process holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(_held(home)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _held(home: Path) -> str:
    pid = (home / LOCK).read_text()
    return (
        f"The platform is running already in {home} (pid {pid or 'unknown'}). "
        "Stop that one (Ctrl-C), or set PORTICO_HOME and the ports for a second one."
    )


def forget(home: Path, keep: Path) -> None:
    """Delete what a run left in `home`, except the folder `keep`.

    Raises:
        SetupError: a run holds it.
    """
    if not (home / LOCK).exists():  # nothing ran here: what is in it is not ours to delete
        return
    with locked(home):
        for name in CONTENTS:
            if (home / name).exists():
                _delete((home / name).absolute(), keep.absolute())


def _delete(entry: Path, keep: Path) -> None:
    if entry == keep:
        return
    if keep.is_relative_to(entry):
        for inner in entry.iterdir():
            _delete(inner, keep)
    elif entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


if __name__ == "__main__":
    try:
        chosen = load(StackSettings)
        forget(chosen.home, keep=chosen.kafka_libs)
    except SetupError as error:
        sys.exit(str(error))
