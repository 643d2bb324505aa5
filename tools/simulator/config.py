"""The settings of the simulator."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.config import ServiceSettings


class SimulatorSettings(ServiceSettings):
    """What the simulator reads from its environment, each with the prefix `SIMULATOR_`."""

    model_config = SettingsConfigDict(
        env_prefix="SIMULATOR_", frozen=True, extra="ignore", populate_by_name=True
    )

    port: int = Field(8095, ge=0, le=65_535)
    """Port of its health, metrics, ledger and controls."""

    seed: int = 1
    """Decides who takes part and what happens; a ledger belongs to one seed."""

    rate: float = Field(20.0, ge=0, le=2_000)
    """Clicks and impressions a second on the day's average; conversions come on top. 0: none."""

    history_days: int = Field(7, ge=1, le=90)
    """How many days before the first start the history begins."""

    history_clicks: int = Field(40_000, ge=0, le=5_000_000)
    """About how many clicks the history has."""

    compression: float = Field(60.0, ge=1)
    """How many times faster than in history live conversions follow their clicks, so that whoever
    watches sees some within a minute."""
