"""A firehose process with topics of a test's own.

    python -m tests.faults.firehose_process TOPICS_JSON

The settings come from the environment; `PORTICO_CRASH_AT` kills it at a named point.
"""

import json
import sys
from dataclasses import replace

from services.firehose.app import build
from services.firehose.config import FirehoseSettings
from shared import topics
from shared.config import load
from shared.runtime import Service, run

SOURCES = {
    "keys": topics.KEYS_STATE,
    "partners": topics.PARTNERS_ACCESS,
    "networks": topics.NETWORKS_STATE,
    "sessions": topics.FIREHOSE_SESSIONS,
}


def build_for_test() -> Service:
    """The service, reading and writing the topics named on the command line."""
    names = json.loads(sys.argv[1])
    return build(
        load(FirehoseSettings),
        **{name: replace(topic, name=names[name]) for name, topic in SOURCES.items()},
        tracking={
            name: replace(topics.TRACKING[name], name=topic)
            for name, topic in names["tracking"].items()
        },
    )


if __name__ == "__main__":
    run(build_for_test)
