"""`python -m services.firehose`."""

from services.firehose.app import build
from shared.runtime import run

if __name__ == "__main__":
    run(build)
