"""Where the commands find the platform: the environment first, then what a running one wrote down.

`portico run` writes `<home>/endpoints.json`, so that commands in another terminal reach it whatever
its ports are.
"""

import json
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.config import load, shared_field
from shared.errors import SetupError

ENDPOINTS_FILE = "endpoints.json"
DEFAULT_HOME = Path(".portico")


class CliSettings(BaseSettings):
    """What `portico` reads from its environment.

    The prefix matters: a field `home` without one would be the variable HOME.
    """

    model_config = SettingsConfigDict(
        env_prefix="PORTICO_", frozen=True, extra="ignore", populate_by_name=True
    )

    home: Path = DEFAULT_HOME
    """Folder of the local platform."""

    gateway: str = ""
    """Base URL of the REST door."""

    firehose: str = ""
    """Base URL of the door of streams."""

    reporting: str = ""
    """Base URL of the reporting service itself, which answers operators on its own machine only."""

    kafka_bootstrap: str = shared_field("KAFKA_BOOTSTRAP", "")
    """`host:port` of Kafka."""

    token: SecretStr = SecretStr("")
    """A staff token; without one, the local issuer makes one."""

    key: SecretStr = SecretStr("")
    """A partner key; without one, that of `portico run`."""

    gateway_port: int = shared_field("GATEWAY_PORT", 8080)
    """Where the REST door is on this machine, if nothing else says."""

    firehose_port: int = shared_field("FIREHOSE_PORT", 8083)
    """Where the door of streams is, likewise."""

    reporting_port: int = shared_field("REPORTING_PORT", 8082)
    """Where the reporting service is, likewise."""

    kafka_port: int = shared_field("KAFKA_PORT", 19_092)
    """Where Kafka is, likewise."""


def write_endpoints(home: Path, endpoints: dict[str, str]) -> None:
    """Tell later commands where the platform of `home` answers."""
    (home / ENDPOINTS_FILE).write_text(json.dumps(endpoints, indent=2))


def settings() -> CliSettings:
    """The settings, with every address filled in.

    Raises:
        SetupError: a variable is wrong.
    """
    chosen = load(CliSettings)
    running = _running(chosen.home)
    defaults = {
        "gateway": f"http://127.0.0.1:{chosen.gateway_port}",
        "reporting": f"http://127.0.0.1:{chosen.reporting_port}",
        "firehose": f"http://127.0.0.1:{chosen.firehose_port}",
        "kafka_bootstrap": f"127.0.0.1:{chosen.kafka_port}",
    }
    found = {
        name: getattr(chosen, name) or running.get(name) or default
        for name, default in defaults.items()
    }
    return chosen.model_copy(update=found)


def _running(home: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((home / ENDPOINTS_FILE).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SetupError(f"{home / ENDPOINTS_FILE} cannot be read ({error}): delete it.") from error
    return found
