"""A real Kafka for one machine: one node, KRaft, its data in one folder.

Starting it on a folder with data continues with that data, also after a SIGKILL. Nothing here is
fit for production: one replica, and topics' flushing left to the operating system.

`python -m deploy.local.kafka [FOLDER]` fetches the jars and writes beside them an archive of loaded
classes, which halves the processor time of every later start.
"""

import asyncio
import base64
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

from deploy.local import jars
from deploy.local.ports import HOST, free_ports
from deploy.local.process import Child, Command
from shared.errors import SetupError, UnavailableError
from shared.kafka import open_admin

START_SECONDS = 90.0
STOP_SECONDS = 8.0

_ARCHIVE = "classes.jsa"
_ARCHIVE_SECONDS = 60.0
_QUICK = "-XX:TieredStopAtLevel=1"  # for a program that is over in a second
_STARTED = "Kafka Server started"
_LOGGING = Path(__file__).parent / "kafka" / "log4j2.xml"
_ADVICE = "Free memory and disk, or give another KAFKA_PORT; 'make reset' forgets damaged data."

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=16777216
"""


class Kafka:
    """One broker: `start`, `stop`, `kill`, and again `start`, always with the same data."""

    def __init__(
        self,
        home: Path,
        *,
        port: int,
        controller_port: int,
        libs: Path,
        log: Path | None = None,
    ) -> None:
        self.name = "kafka"
        self.port = port
        self._home = home.absolute()
        self._log = log or self._home / "kafka.log"
        self._libs = libs.absolute()
        self._controller_port = controller_port
        self.child = Child("kafka", Command(self._broker()), self._log)

    @property
    def bootstrap(self) -> str:
        """Where clients connect, `host:port`."""
        return f"{HOST}:{self.port}"

    async def start(self, seconds: float = START_SECONDS) -> None:
        """Start the broker and wait until it serves; the folder is made and formatted if new.

        Raises:
            SetupError: it did not come up, or serves nobody; the message holds the end of its log.
        """
        jars.fetch(self._libs)
        self._home.mkdir(parents=True, exist_ok=True)
        if not self._data.exists():
            await self._format(seconds)
        self._configure(self._data)
        self.child.start()
        if not await self.child.wrote(_STARTED, seconds):
            await self.child.stop(STOP_SECONDS)
            raise self.child.failure("Kafka did not start", _ADVICE)
        try:
            async with open_admin(self.bootstrap):  # it may yet answer that no broker serves
                return
        except UnavailableError as error:
            await self.child.stop(STOP_SECONDS)
            raise self.child.failure(f"Kafka serves nobody ({error})", _ADVICE) from error

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop the broker in order; kill it if that takes longer than `seconds`."""
        await self.child.stop(seconds)

    async def kill(self) -> None:
        """End the broker as a crash would, and wait until it is gone."""
        await self.child.kill()

    def _configure(self, data: Path) -> None:
        ports = {"port": self.port, "controller_port": self._controller_port}
        self._config.write_text(_PROPERTIES.format(host=HOST, data=data, **ports))

    async def _format(self, seconds: float) -> None:
        formatting = self._home / "formatting"  # takes its name once whole
        shutil.rmtree(formatting, ignore_errors=True)
        self._configure(formatting)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ["format", "--config", str(self._config), f"--cluster-id={cluster}"]
        options = [_QUICK, self._shared_classes()]
        java = self._java(options, "kafka.tools.StorageTool", *arguments)
        tool = Child("kafka", Command(java), self._log)
        tool.start()
        if not await tool.exited(seconds) or tool.exit_status:
            await tool.kill()
            raise tool.failure("Kafka's folder could not be formatted", _ADVICE)
        formatting.replace(self._data)

    async def archive_classes(self) -> None:
        """Write an archive of the classes that a broker loads, by running this one once."""
        arriving = self._home / _ARCHIVE
        self.child = Child("kafka", Command(self._broker(archive_to=arriving)), self._log)
        await self.start()
        await self.stop(_ARCHIVE_SECONDS)
        if arriving.exists():
            arriving.replace(self._libs / _ARCHIVE)

    def _broker(self, archive_to: Path | None = None) -> list[str | Path]:
        sharing = f"-XX:ArchiveClassesAtExit={archive_to}" if archive_to else self._shared_classes()
        return self._java(["-Xms128m", "-Xmx512m", sharing], "kafka.Kafka", str(self._config))

    def _shared_classes(self) -> str:
        """Have Java take classes from the archive; it goes without one of another version."""
        return f"-XX:SharedArchiveFile={self._libs / _ARCHIVE}"

    def _java(self, options: list[str], main: str, *arguments: str) -> list[str | Path]:
        java = shutil.which("java")
        if java is None:
            raise SetupError(
                "Java 17 or newer (java) is missing; the embedded Kafka needs it. Install it: "
                "'apt-get install openjdk-17-jre-headless', 'dnf install java-17-openjdk-headless' "
                "or 'brew install openjdk@17'."
            )
        logging = f"-Dlog4j2.configurationFile={_LOGGING}"
        return [
            java,
            "-Xlog:cds=off",
            "-Xlog:cds+dynamic=off",
            *options,
            logging,
            "-cp",
            f"{self._libs}/*",
            main,
            *arguments,
        ]

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _config(self) -> Path:
        return self._home / "server.properties"


async def prepare(libs: Path) -> None:
    """Have the jars and the archive of classes in `libs`; quick if they are there."""
    jars.fetch(libs)
    if (libs / _ARCHIVE).exists():
        return
    port, controller_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="archive-", dir=libs.parent) as home:
        kafka = Kafka(Path(home), port=port, controller_port=controller_port, libs=libs)
        await kafka.archive_classes()


if __name__ == "__main__":
    try:
        asyncio.run(prepare(Path(sys.argv[1]) if sys.argv[1:] else jars.DEFAULT_LIBS))
    except SetupError as error:
        sys.exit(str(error))
