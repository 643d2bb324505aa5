"""Makes the facts of `facts_data` in a process of its own, since a process has one ClickHouse folder.

    python -m tests.benchmarks.facts_process FOLDER ROWS END

The engine's data goes to `FOLDER/clickhouse`, as the reporting service wants it, and the rows of the
baselines to `FOLDER/*.parquet`. Prints one line of JSON.
"""

import json
import sys
import time
from pathlib import Path

import clickhouse_connect

from tests.benchmarks.facts_data import Load, bytes_per_click, export, make, some_click_ids

DATABASE = "reporting"


def main(folder: Path, load: Load) -> None:
    """Make and export."""
    data = folder / "clickhouse" / "data"
    data.parent.mkdir(parents=True)
    client = clickhouse_connect.get_client(interface="chdb", path=str(data))
    client.command(f"CREATE DATABASE {DATABASE}")
    client.database = DATABASE
    began = time.perf_counter()
    make(client, load)
    made = time.perf_counter()
    export(client, folder)
    found = {
        "bytes_per_click": bytes_per_click(client),
        "click_ids": some_click_ids(client),
        "made_seconds": made - began,
        "exported_seconds": time.perf_counter() - made,
    }
    client.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Load(int(sys.argv[2]), int(sys.argv[3])))
