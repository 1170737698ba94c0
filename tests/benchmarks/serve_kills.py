"""kill -9 of the service under load, over and over, on SQLite and PostgreSQL: what was acknowledged is counted once.

python -m tests.benchmarks.serve_kills [--kills 30]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.killing import assert_counted_once, kill_under_load
from tests.serving import Process
from tests.stores import postgres_server


def kill(times: int) -> None:
    with tempfile.TemporaryDirectory() as folder, postgres_server() as postgres:
        for store in (f"sqlite:///{Path(folder) / 'store.db'}", postgres.new_database()):
            server = Process(store)
            found = kill_under_load(server, store, times)
            n = len(found.acknowledged)
            assert_counted_once(found, store)
            server.kill()
            counted = f"{n:,} of {len(found.sent):,} events acknowledged, none lost; each counted once"
            print(f"{store.split(':')[0]:<12}{times} kills: {counted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    kill(parser.parse_args().kills)


if __name__ == "__main__":
    main()
