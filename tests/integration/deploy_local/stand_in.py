"""A program for tests: answers 200 on the simulator's port, and stops on SIGTERM.

With the variable STAND_IN_UNREADY it answers 503. It ends at once if the file named by
STAND_IN_BROKEN_IF exists.
"""

import http.server
import os
import signal
import sys
from pathlib import Path

UNREADY = "STAND_IN_UNREADY"
BROKEN_IF = "STAND_IN_BROKEN_IF"


class Handler(http.server.BaseHTTPRequestHandler):
    """Ready, or not."""

    def do_GET(self) -> None:
        """Answer whatever is asked."""
        self.send_response(503 if UNREADY in os.environ else 200)
        self.end_headers()
        self.wfile.write(b'{"topics": "still loading"}')


if __name__ == "__main__":
    if BROKEN_IF in os.environ and Path(os.environ[BROKEN_IF]).exists():
        sys.exit("SIMULATOR_RATE: not a number")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ["SIMULATOR_PORT"])
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
