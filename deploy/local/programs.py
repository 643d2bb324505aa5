"""The one table of the platform's own processes, and the environment they run in."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.config import StackSettings
from deploy.local.ports import HOST
from deploy.local.secrets import Secrets

JWT_ISSUER = "portico-local"
JWT_AUDIENCE = "portico"


@dataclass(frozen=True, slots=True)
class Program:
    """A process: `python -m module`, listening on the port of its name."""

    name: str
    module: str


SIMULATOR = Program("simulator", "tools.simulator")
GATEWAY = Program("gateway", "services.gateway")
FIREHOSE = Program("firehose", "services.firehose")
KEYS = Program("keys", "services.keys")
REPORTING = Program("reporting", "services.reporting")
AUDIT = Program("audit", "services.audit")
ANOMALIES = Program("anomalies", "services.audit.anomalies_worker")

PROGRAMS = (KEYS, REPORTING, GATEWAY, FIREHOSE, AUDIT, ANOMALIES, SIMULATOR)
"""In the order in which they start; none waits for another."""

STOP_STEPS = (
    ((SIMULATOR.name,), 2.0),
    ((GATEWAY.name, FIREHOSE.name), 5.0),
    ((KEYS.name, REPORTING.name, AUDIT.name, ANOMALIES.name), 4.5),
    (("postgres", "kafka"), 3.0),
)
"""Who stops together, and after how many seconds those that have not are killed: 14.5 in all."""

DRAIN_SECONDS = 3.0
"""How long a service may finish requests in flight; below the shortest step of a service."""


def url(settings: StackSettings, program: Program) -> str:
    """Where the program answers."""
    return f"http://{HOST}:{settings.port(program.name)}"


def environment(settings: StackSettings, secrets: Secrets) -> Mapping[str, str]:
    """What the programs read, beside the environment that we were started in."""
    home = settings.home.absolute()
    found = {
        "PYTHONUNBUFFERED": "1",  # last words reach the log
        "PORTICO_HOME": str(home),
        "KAFKA_BOOTSTRAP": settings.bootstrap,
        "DATABASE_URL": settings.database,
        "IDENTITY_SECRETS": secrets.identity,
        "KEYS_MASTER_KEY_FILE": str(secrets.master_key),
        "KEYS_PUBLIC_URL": url(settings, GATEWAY),
        "JWT_JWKS": str(secrets.jwks),
        "JWT_ISSUER": JWT_ISSUER,
        "JWT_AUDIENCE": JWT_AUDIENCE,
        "AUDIT_SIGNING_KEY_FILE": str(secrets.audit_key),
        "AUDIT_CHECKPOINT_DIR": str(home / "checkpoints"),
        "REPORTING_CLICKHOUSE_PATH": str(home / "clickhouse"),
    }
    for upstream in (KEYS, REPORTING, AUDIT):
        found[f"GATEWAY_UPSTREAM_{upstream.name.upper()}"] = url(settings, upstream)
    for program in PROGRAMS:
        found[f"{program.name.upper()}_PORT"] = str(settings.port(program.name))
        found[f"{program.name.upper()}_DRAIN_SECONDS"] = str(DRAIN_SECONDS)
    if settings.clickhouse_url:
        found["CLICKHOUSE_URL"] = settings.clickhouse_url.get_secret_value()
    return found
