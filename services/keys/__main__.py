"""Runs the key service: `python -m services.keys`."""

from services.keys.app import build
from shared.runtime import run

if __name__ == "__main__":
    run(build)
