"""The settings of the local platform: ports, folders, and what exists already."""

from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local.jars import DEFAULT_LIBS
from deploy.local.ports import HOST, free_ports
from shared.config import shared_field


def _port(name: str, default: int) -> Any:
    return shared_field(name, default, gt=0, le=65_535)


class StackSettings(BaseSettings):
    """What `make run` reads from its environment.

    The prefix matters: a field `home` without one would be the variable HOME.
    """

    model_config = SettingsConfigDict(
        env_prefix="PORTICO_", frozen=True, extra="ignore", populate_by_name=True
    )

    home: Path = Path(".portico")
    """Folder for data, logs and secrets; one run at a time."""

    kafka_libs: Path = DEFAULT_LIBS
    """Folder of Kafka's jars; may be shared by many runs."""

    kafka_bootstrap: str | None = shared_field("KAFKA_BOOTSTRAP", None)
    """`host:port` of a Kafka of your own; none is started then."""

    database_url: SecretStr | None = shared_field("DATABASE_URL", None)
    """`postgresql://…` of a Postgres of your own; none is started then."""

    clickhouse_url: SecretStr | None = shared_field("CLICKHOUSE_URL", None)
    """A ClickHouse of your own, instead of the one embedded in reporting."""

    durable: bool = shared_field("POSTGRES_DURABLE", default=True)
    """Whether the embedded Postgres survives the death of the machine; off is faster."""

    gateway_port: int = _port("GATEWAY_PORT", 8080)
    """Door of the REST API."""

    keys_port: int = _port("KEYS_PORT", 8081)
    """Key service."""

    reporting_port: int = _port("REPORTING_PORT", 8082)
    """Reporting service."""

    firehose_port: int = _port("FIREHOSE_PORT", 8083)
    """Door of the event streams."""

    audit_port: int = _port("AUDIT_PORT", 8084)
    """Audit service."""

    anomalies_port: int = _port("ANOMALIES_PORT", 8094)
    """Health and metrics of the anomaly worker."""

    simulator_port: int = _port("SIMULATOR_PORT", 8095)
    """Health, metrics and ledger of the simulator."""

    kafka_port: int = _port("KAFKA_PORT", 19_092)
    """Embedded Kafka."""

    kafka_controller_port: int = _port("KAFKA_CONTROLLER_PORT", 19_093)
    """Embedded Kafka's own use."""

    postgres_port: int = _port("POSTGRES_PORT", 15_432)
    """Embedded Postgres."""

    @property
    def bootstrap(self) -> str:
        """Where Kafka is, ours or the given one."""
        return self.kafka_bootstrap or f"{HOST}:{self.kafka_port}"

    @property
    def database(self) -> str:
        """Where Postgres is, ours or the given one."""
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"postgresql://postgres@{HOST}:{self.postgres_port}/postgres"

    def with_free_ports(self) -> Self:
        """The same with ports that nobody listens on now."""
        names = sorted(name for name in type(self).model_fields if name.endswith("_port"))
        return self.model_copy(update=dict(zip(names, free_ports(len(names)), strict=True)))

    def port(self, name: str) -> int:
        """The port of the process `name`."""
        found: int = getattr(self, f"{name}_port")
        return found
