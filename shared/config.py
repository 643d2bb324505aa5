"""Settings, read once at start: a wrong or missing one ends the process naming the variable.

A service's `config.py` derives one frozen class from `ServiceSettings` with its own prefix. The
variables without a prefix (`KAFKA_BOOTSTRAP`, `DATABASE_URL`, …) mean the same to every service.
"""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import SetupError

S = TypeVar("S", bound=BaseSettings)


def shared_field(name: str, default: Any = ..., **rest: Any) -> Any:
    """A field read from the variable `name` whatever the class's prefix is."""
    return Field(default, validation_alias=AliasChoices(name, name.lower()), **rest)


class ServiceSettings(BaseSettings):
    """What every service reads from its environment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    kafka_bootstrap: str = shared_field("KAFKA_BOOTSTRAP", "127.0.0.1:19092")
    """`host:port[,host:port]` of Kafka."""

    database_url: SecretStr = shared_field(
        "DATABASE_URL", SecretStr("postgresql://postgres@127.0.0.1:15432/postgres")
    )
    """Postgres, as `postgresql://user:password@host:port/database`."""

    home: Path = shared_field("PORTICO_HOME", Path(".portico"))
    """Folder for what the embedded set-up keeps on disk."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = shared_field(
        "PORTICO_LOG_LEVEL", "INFO"
    )
    """From which level on lines are logged; `DEBUG` also lets the libraries speak."""

    host: str = "127.0.0.1"
    """Address the service listens on."""

    port: int = Field(0, ge=0, le=65_535)
    """Port the service listens on; 0 lets the system choose."""

    drain_seconds: float = Field(8.0, gt=0)
    """How long a stop may finish requests in flight; 5 s below the orchestrator's limit."""


class IdentitySettings(BaseSettings):
    """The secrets with which the gateway signs, and services verify, who is calling."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    identity_secrets: SecretStr = shared_field("IDENTITY_SECRETS")
    """Comma-separated; the first signs, all verify, so that a secret can be rolled over."""


class TokenSettings(BaseSettings):
    """How the tokens of staff, operators and partner users are verified."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    jwt_jwks: str = shared_field("JWT_JWKS")
    """The issuer's key set: an https URL, or the path of a file."""

    jwt_issuer: str = shared_field("JWT_ISSUER", "portico-local")
    """The `iss` a token must carry."""

    jwt_audience: str = shared_field("JWT_AUDIENCE", "portico")
    """The `aud` a token must carry."""

    jwt_roles: str = shared_field("JWT_ROLES", "")
    """What the issuer's roles carry here: JSON, or the path of a file with it, such as
    `{"*": {"manager": ["security:full"]}}` by network (`*`: each) and role."""


def load(settings: type[S]) -> S:
    """The settings from the environment.

    Raises:
        SetupError: a variable is missing or wrong; the message names each of them.
    """
    try:
        return settings()
    except ValidationError as error:
        problems = "; ".join(_problem(settings, item) for item in error.errors())
        raise SetupError(f"Settings: {problems}") from error


def _problem(settings: type[BaseSettings], item: Any) -> str:
    location = item["loc"][0] if item["loc"] else "?"
    prefix = settings.model_config.get("env_prefix") or ""
    field = settings.model_fields.get(str(location))
    name = str(location) if field is None else f"{prefix}{location}"
    return f"{name.upper()}: {item['msg']}"
