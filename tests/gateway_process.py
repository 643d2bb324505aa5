"""A gateway process on topics of a test's own: `python -m tests.gateway_process PREFIX`.

The settings come from the environment, as always.
"""

import sys
from dataclasses import replace
from inspect import signature

from services.gateway.app import build
from shared.runtime import Service, run
from shared.topics import Topic


def tables(prefix: str) -> dict[str, Topic]:
    """The gateway's topics by the argument of `build` that names them, renamed."""
    defaults = {each.name: each.default for each in signature(build).parameters.values()}
    return {
        name: replace(topic, name=f"{prefix}.{topic.name}")
        for name, topic in defaults.items()
        if isinstance(topic, Topic)
    }


def _build() -> Service:
    return build(**tables(sys.argv[1]))


if __name__ == "__main__":
    run(_build)
