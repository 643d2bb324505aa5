"""Runs the audit service: `python -m services.audit`."""

from services.audit.app import build
from shared.runtime import run

if __name__ == "__main__":
    run(build)
