"""`python -m services.gateway`."""

from services.gateway.app import build
from shared.runtime import run

if __name__ == "__main__":
    run(build)
