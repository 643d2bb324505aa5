"""Runs the anomaly worker: `python -m services.audit.anomalies_worker`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.audit import domain
from services.audit.anomalies import Detector, Publish
from services.audit.config import AnomalySettings
from services.audit.metrics import AnomalyMetrics
from shared import events, topics
from shared.clock import SystemClock
from shared.config import load
from shared.http import AsgiApp, new_app
from shared.kafka import Producer, open_producer, translated
from shared.runtime import Lifecycle, Service, run

SOURCE = "portico/audit"
CLOCK = SystemClock()


def build() -> Service:
    """The worker, by the environment; opens nothing."""
    settings = load(AnomalySettings)
    metrics = AnomalyMetrics()

    @asynccontextmanager
    async def open_(lifecycle: Lifecycle) -> AsyncIterator[AsgiApp]:
        async with AsyncExitStack() as stack:
            producer = await stack.enter_async_context(
                open_producer(settings.kafka_bootstrap, client_id="anomalies")
            )
            detector = Detector(settings, publisher(producer), CLOCK, metrics)
            lifecycle.run_task("detector", detector.run)
            lifecycle.ready_when("detector", detector.missing)
            yield new_app("Anomalies", "The worker has no routes; see /healthz and /metrics.")

    return Service("anomalies", settings, open_, metrics.render)


def publisher(producer: Producer) -> Publish:
    """Publishes an anomaly under an id that is the same whenever the same is found."""

    async def publish(anomaly: domain.Anomaly) -> None:
        kind = events.type_name(anomaly)
        headers = events.headers(
            anomaly,
            source=SOURCE,
            occurred_at=anomaly.occurred_at,
            event_id=f"{anomaly.anomaly_id}-{kind}",
        )
        key = events.partner_key(anomaly.network_id, anomaly.network_affiliate_id)
        with translated("publishing an anomaly"):
            await producer.send_and_wait(
                topics.AUDIT_ANOMALIES.name,
                events.encode(anomaly),
                key=key.encode(),
                headers=headers,
            )

    return publish


if __name__ == "__main__":
    run(build)
