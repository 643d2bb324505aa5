"""Makes `.venv` and fetches what runs in it, from a bare Python: `python3 tools/bootstrap.py`.

Checks the prerequisites first and names every missing one with the way to get it. Runs with the
standard library alone, and reads with any Python 3, so that an old one gets a message instead of
a stack trace. Safe to repeat: what is there stays.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

PYTHON_MIN = (3, 11)
JAVA_MIN = 17

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".ready"

PYTHON_MISSING = """\
Python 3.11 or newer is missing (found: {found}). Install it, with its venv module:
    Debian, Ubuntu:  apt-get install python3 python3-venv
    Fedora:          dnf install python3.12
    macOS:           brew install python@3.12"""
VENV_MISSING = """\
{python} cannot make virtual environments. Install its venv module:
    Debian, Ubuntu:  apt-get install python3-venv"""
JAVA_MISSING = """\
Java 17 or newer is missing (found: {found}); the embedded Kafka needs it. Install it:
    Debian, Ubuntu:  apt-get install openjdk-17-jre-headless
    Fedora:          dnf install java-17-openjdk-headless
    macOS:           brew install openjdk@17
    or set KAFKA_BOOTSTRAP to a Kafka of your own."""
MAVEN_MISSING = """\
Maven (mvn) is missing; it fetches the embedded Kafka. Install it:
    Debian, Ubuntu:  apt-get install maven
    Fedora:          dnf install maven
    macOS:           brew install maven
    or set KAFKA_BOOTSTRAP to a Kafka of your own."""


class Missing(Exception):
    """A prerequisite is not there; the text says how to get it."""


def python_version(text):
    # type: (str) -> tuple[int, ...] | None
    """The version in the output of `python --version`, `(3, 11)`."""
    match = re.search(r"Python (\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else None


def java_version(text):
    # type: (str) -> int | None
    """The release in the output of `java -version`: 17 of `"17.0.15"`, 8 of `"1.8.0_392"`."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else None


def output_of(command):
    # type: (list[str]) -> str
    """What a program prints, on either stream; empty if it cannot be run."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def find_python(candidates):
    # type: (list[str]) -> str
    """The first of `candidates` that is new enough."""
    found = []
    for candidate in candidates:
        version = python_version(output_of([candidate, "--version"]))
        if version and version >= PYTHON_MIN:
            return candidate
        if version:
            found.append(".".join(map(str, version)))
    raise Missing(PYTHON_MISSING.format(found=", ".join(found) or "none"))


def check_venv(python):
    # type: (str) -> None
    """That `python` can make a virtual environment, which Debian packages apart."""
    if subprocess.call([python, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL):
        raise Missing(VENV_MISSING.format(python=python))


def check_java():
    # type: () -> None
    """That `java` is there and new enough."""
    version = java_version(output_of(["java", "-version"]))
    if version is None or version < JAVA_MIN:
        raise Missing(JAVA_MISSING.format(found="none" if version is None else version))


def check_maven():
    # type: () -> None
    """That `mvn` is there."""
    if shutil.which("mvn") is None:
        raise Missing(MAVEN_MISSING)


def prerequisites(needs_kafka):
    # type: (bool) -> str
    """The Python to use, after every missing prerequisite has been named."""
    candidates = [sys.executable] + ["python3.%d" % minor for minor in (11, 12, 13, 14)]
    python, problems = "", []
    for check in [lambda: find_python(candidates)] + (
        [check_java, check_maven] if needs_kafka else []
    ):
        try:
            python = check() or python
        except Missing as problem:
            problems.append(str(problem))
    if not problems:
        check_venv(python)
        return python
    raise Missing("\n\n".join(problems))


def say(text):
    # type: (str) -> None
    """Tell what is being done."""
    print("  " + text, flush=True)


def run(command, unit=None, total=0):
    # type: (list[str], str | None, int) -> None
    """Run a program, counting the lines of its output that name a package; its end if it fails."""
    tail = deque(maxlen=25)  # type: deque[str]
    done = 0
    with subprocess.Popen(
        command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for raw in process.stdout or ():
            line = raw.decode(errors="replace").rstrip()
            tail.append(line)
            if unit and line.startswith(("Collecting ", "Requirement already satisfied: ")):
                done += 1
                if done % 20 == 0:
                    say("  %d of about %d %s" % (done, total, unit))
    if process.returncode:
        raise Missing("'%s' failed:\n%s" % (" ".join(map(str, command[:6])), "\n".join(tail)))


def make_environment(python):
    # type: (str) -> None
    """A virtual environment with exactly the locked packages, and this project in it."""
    if not (VENV / "bin" / "python").exists():
        say("virtual environment .venv with %s" % output_of([python, "--version"]).strip())
        run([python, "-m", "venv", str(VENV)])
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    packages = len(re.findall(r"(?m)^[a-zA-Z0-9]", LOCK.read_text()))
    say("packages of requirements.lock; a minute or two the first time")
    run(pip + ["--require-hashes", "-r", str(LOCK)], "packages", packages)
    run(pip + ["--no-deps", "--no-build-isolation", "-e", str(ROOT)])


def main():
    # type: () -> None
    """Make everything ready, or end with one message."""
    needs_kafka = not os.environ.get("KAFKA_BOOTSTRAP")
    try:
        make_environment(prerequisites(needs_kafka))
        if needs_kafka:
            say("jars of the embedded Kafka by Maven, and an archive of their classes")
            run([str(VENV / "bin" / "python"), "-m", "deploy.local.kafka"])
    except Missing as problem:
        sys.exit(str(problem))
    STAMP.write_text("")
    say("ready")


if __name__ == "__main__":
    main()
