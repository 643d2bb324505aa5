"""The jars of the embedded Kafka: fetched once by Maven from a pinned POM, shared by all runs.

A folder is whole or absent: jars arrive in a folder of their own, which takes its name in one step.
Another POM makes the folder stale, and the next start replaces it.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from shared.errors import SetupError

POM = Path(__file__).parent / "kafka" / "pom.xml"
DEFAULT_LIBS = Path(".portico/kafka/libs")
FETCH_SECONDS = 900

_MARK = "pom.sha256"


def are_complete(libs: Path) -> bool:
    """Whether `libs` holds exactly what the POM asks for."""
    mark = libs / _MARK
    return mark.exists() and mark.read_text() == _pom_digest()


def fetch(libs: Path) -> None:
    """Have the jars in `libs`; does nothing if they are there.

    Raises:
        SetupError: Maven is missing, or could not fetch them.
    """
    if are_complete(libs):
        return
    libs = libs.absolute()  # Maven takes a relative folder from where the POM is
    libs.parent.mkdir(parents=True, exist_ok=True)
    arriving = Path(tempfile.mkdtemp(prefix="libs-", dir=libs.parent))
    try:
        _copy_dependencies(arriving)
        (arriving / _MARK).write_text(_pom_digest())
        _replace(libs, arriving)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _copy_dependencies(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise SetupError(
            "Maven (mvn) is missing; it fetches the embedded Kafka. Install it: "
            "'apt-get install maven', 'dnf install maven' or 'brew install maven'."
        )
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    done = subprocess.run(
        [maven, "-q", "-B", "-f", str(POM), *goal],
        capture_output=True,
        text=True,
        check=False,
        timeout=FETCH_SECONDS,
    )
    if done.returncode or not list(folder.glob("kafka_*.jar")):
        raise SetupError(
            f"Maven could not fetch Kafka's jars:\n{done.stdout[-2000:]}{done.stderr[-2000:]}\n"
            "Check that this machine reaches a Maven repository (~/.m2/settings.xml), then repeat."
        )


def _replace(libs: Path, arriving: Path) -> None:
    if libs.exists() and not are_complete(libs):
        stale = Path(tempfile.mkdtemp(prefix="stale-", dir=libs.parent))
        libs.replace(stale)
        shutil.rmtree(stale)
    try:
        arriving.replace(libs)
    except OSError:
        if not are_complete(libs):  # otherwise another run was faster
            raise


def _pom_digest() -> str:
    return hashlib.sha256(POM.read_bytes()).hexdigest()
