"""Protects operators from a process that starts with half of its settings."""

import pytest
from pydantic_settings import SettingsConfigDict

from shared.config import IdentitySettings, ServiceSettings, load
from shared.errors import SetupError


class _Settings(ServiceSettings, IdentitySettings):
    model_config = SettingsConfigDict(
        env_prefix="EXAMPLE_", frozen=True, extra="ignore", populate_by_name=True
    )

    batch_records_max: int


def test_settings_come_from_prefixed_and_shared_variables(monkeypatch):
    """A service's own settings have its prefix; the platform's have none."""
    monkeypatch.setenv("EXAMPLE_BATCH_RECORDS_MAX", "10")
    monkeypatch.setenv("EXAMPLE_PORT", "8081")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("IDENTITY_SECRETS", "a secret nobody may see")
    settings = load(_Settings)
    assert (settings.batch_records_max, settings.port) == (10, 8081)
    assert settings.kafka_bootstrap == "kafka:9092"
    assert "nobody" not in repr(settings)


def test_every_wrong_variable_is_named_at_once(monkeypatch):
    """One start tells all that is to be mended."""
    monkeypatch.setenv("EXAMPLE_PORT", "99999")
    monkeypatch.delenv("IDENTITY_SECRETS", raising=False)
    with pytest.raises(SetupError) as caught:
        load(_Settings)
    for name in ("EXAMPLE_BATCH_RECORDS_MAX", "EXAMPLE_PORT", "IDENTITY_SECRETS"):
        assert name in caught.value.message
