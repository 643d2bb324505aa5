"""The settings of the local platform: ports, folders, and what exists already."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local.jars import DEFAULT_LIBS
from deploy.local.ports import HOST, free_ports


class StackSettings(BaseSettings):
    """What `make run` reads from its environment; each variable is the field's name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    home: Path = Field(Path(".portico"), validation_alias="PORTICO_HOME")
    """Folder for data, logs and secrets; one run at a time."""

    kafka_libs: Path = DEFAULT_LIBS
    """Folder of Kafka's jars; may be shared by many runs."""

    kafka_bootstrap: str | None = None
    """`host:port` of a Kafka of your own; none is started then."""

    database_url: SecretStr | None = None
    """`postgresql://…` of a Postgres of your own; none is started then."""

    clickhouse_url: SecretStr | None = None
    """A ClickHouse of your own, instead of the one embedded in reporting."""

    durable: bool = Field(default=True, validation_alias="POSTGRES_DURABLE")
    """Whether the embedded Postgres survives the death of the machine; off is faster."""

    gateway_port: int = Field(8080, gt=0, le=65_535)
    """Door of the REST API."""

    keys_port: int = Field(8081, gt=0, le=65_535)
    """Key service."""

    reporting_port: int = Field(8082, gt=0, le=65_535)
    """Reporting service."""

    firehose_port: int = Field(8083, gt=0, le=65_535)
    """Door of the event streams."""

    audit_port: int = Field(8084, gt=0, le=65_535)
    """Audit service."""

    anomalies_port: int = Field(8094, gt=0, le=65_535)
    """Health and metrics of the anomaly worker."""

    simulator_port: int = Field(8095, gt=0, le=65_535)
    """Health, metrics and ledger of the simulator."""

    kafka_port: int = Field(19_092, gt=0, le=65_535)
    """Embedded Kafka."""

    kafka_controller_port: int = Field(19_093, gt=0, le=65_535)
    """Embedded Kafka's own use."""

    postgres_port: int = Field(15_432, gt=0, le=65_535)
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
