"""The published REST document, as tests read it."""

from typing import Any

import yaml

from tests.backends import ROOT


def openapi() -> dict[str, Any]:
    """`docs/openapi.yaml`, read anew; by the parser in C, since every worker of a run reads it."""
    with (ROOT / "docs" / "openapi.yaml").open("rb") as file:
        document: dict[str, Any] = yaml.load(file, yaml.CSafeLoader)
    return document
