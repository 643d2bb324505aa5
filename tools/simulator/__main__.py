"""`python -m tools.simulator`: the simulator as a process of the local platform."""

from shared.runtime import run
from tools.simulator.app import build

if __name__ == "__main__":
    run(build)
