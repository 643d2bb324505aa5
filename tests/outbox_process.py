"""A process that does nothing but relay an outbox, on the platform's own runtime."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import generate_latest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.config import ServiceSettings, load
from shared.http import new_app
from shared.observability import new_registry
from shared.outbox import RelayMetrics, RelaySettings, open_relay
from shared.runtime import Lifecycle, Service, run


class Settings(ServiceSettings):
    """Which outbox."""

    model_config = SettingsConfigDict(
        env_prefix="OUTBOX_", frozen=True, extra="ignore", populate_by_name=True
    )
    name_of_schema: str = Field(validation_alias="OUTBOX_SCHEMA")


def build() -> Service:
    """The process."""
    settings = load(Settings)
    registry = new_registry()

    @asynccontextmanager
    async def opened(lifecycle: Lifecycle) -> AsyncIterator:
        relay_settings = RelaySettings(
            settings.kafka_bootstrap,
            settings.database_url.get_secret_value(),
            settings.name_of_schema,
            "child",
        )
        async with open_relay(relay_settings, RelayMetrics(registry, "test")) as relay:
            lifecycle.run_task("relay", relay.run)
            yield new_app("relay", "A relay")

    return Service("relay", settings, opened, lambda: generate_latest(registry))


if __name__ == "__main__":
    run(build)
