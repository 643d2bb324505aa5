"""A newcomer with a missing prerequisite reads which one, and how to get it."""

import subprocess
import sys

import pytest

from tools import bootstrap


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "24-ea" 2025-03-18', 24),
        ("command not found", None),
    ],
)
def test_the_release_of_java_is_read_from_its_output(text, release):
    """Java has named its versions in three ways."""
    assert bootstrap.java_version(text) == release


@pytest.mark.parametrize(
    ("text", "version"),
    [("Python 3.11.7", (3, 11)), ("Python 3.9.18\n", (3, 9)), ("pyenv: not found", None)],
)
def test_the_version_of_python_is_read_from_its_output(text, version):
    """3.9 is less than 3.11, which text would get wrong."""
    assert bootstrap.python_version(text) == version


def test_the_first_python_that_is_new_enough_is_taken():
    """A broken or missing candidate is passed over."""
    assert bootstrap.find_python(["/nonexistent/python", sys.executable]) == sys.executable


def test_every_missing_prerequisite_is_named_at_once(tmp_path):
    """Nobody installs Java only to be told next that Maven is missing."""
    done = subprocess.run(
        [sys.executable, bootstrap.__file__],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "Java 17 or newer is missing (found: none)" in done.stderr
    assert "Maven (mvn) is missing" in done.stderr
    assert "apt-get install maven" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_fails_shows_its_last_words():
    """A failed installation is not a bare exit status."""
    command = [sys.executable, "-c", "print('no such wheel'); raise SystemExit(3)"]

    with pytest.raises(bootstrap.Missing, match="no such wheel"):
        bootstrap.run(command)
