"""Where the local platform's parts are."""

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from deploy.local import programs, secrets
from deploy.local.config import StackSettings
from shared.config import ServiceSettings
from tools.cli import config as cli


class ExampleSettings(ServiceSettings):
    """As every service's."""

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_", populate_by_name=True)


def test_settings_of_the_environment_win(monkeypatch):
    """Two clones coexist by their ports."""
    monkeypatch.setenv("GATEWAY_PORT", "9000")
    monkeypatch.setenv("PORTICO_HOME", "elsewhere")

    settings = StackSettings()

    assert (settings.gateway_port, str(settings.home)) == (9000, "elsewhere")


def test_a_persons_own_folder_is_never_taken_for_the_platforms(monkeypatch, tmp_path):
    """HOME is no setting of ours: data would be strewn over it, and `make reset` would look there."""
    monkeypatch.delenv("PORTICO_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    found = {StackSettings().home, cli.CliSettings().home, ExampleSettings().home}

    assert found == {Path(".portico")}


def test_a_given_kafka_and_postgres_are_used(monkeypatch):
    """Ours are not started beside them."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@db/x")

    settings = StackSettings()

    assert (settings.bootstrap, settings.database) == ("kafka:9092", "postgresql://u:p@db/x")


def test_free_ports_are_all_different():
    """No two processes of one platform collide."""
    settings = StackSettings().with_free_ports()
    fields = [name for name in StackSettings.model_fields if name.endswith("_port")]

    assert len({getattr(settings, name) for name in fields}) == len(fields) == 10


def test_every_program_stops_in_some_step():
    """None is forgotten until the end."""
    stopped = {name for names, _ in programs.STOP_STEPS for name in names}

    assert {program.name for program in programs.PROGRAMS} | {"kafka", "postgres"} == stopped


def test_a_stop_takes_at_most_15_seconds():
    """The sum of the steps is what a person waits after Ctrl-C, at worst."""
    assert sum(seconds for _, seconds in programs.STOP_STEPS) < 15


def test_programs_find_each_other_by_their_environment(tmp_path):
    """The gateway's upstreams are the ports that the services listen on."""
    settings = StackSettings(home=tmp_path).with_free_ports()

    env = programs.environment(settings, secrets.ensure(tmp_path))

    assert env["GATEWAY_UPSTREAM_KEYS"] == f"http://127.0.0.1:{env['KEYS_PORT']}"
    assert env["KAFKA_BOOTSTRAP"] == f"127.0.0.1:{settings.kafka_port}"
    assert env["PORTICO_HOME"] == str(tmp_path)
