"""Runs the reporting service: `python -m services.reporting`."""

from services.reporting.app import build
from shared.runtime import run

if __name__ == "__main__":
    run(build)
