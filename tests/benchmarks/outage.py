"""PostgreSQL stopped, then hanging, for 20 s under load: what is refused meanwhile, how soon it is noticed and over.

python -m tests.benchmarks.outage [--seconds 20]
"""

from __future__ import annotations

import argparse

from tests.outages import WAYS, ride_out
from tests.serving import Process
from tests.stores import postgres_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    with postgres_server() as postgres:
        for way in WAYS:
            url = postgres.new_database()
            server = Process(url)
            try:
                found = ride_out(server, postgres, url, way, given.seconds)
            finally:
                server.clean_up()
            print(f"{way} for {given.seconds:g} s: 503 on /readyz and scoring after {found.noticed:.1f} s, ", end="")
            print(f"slowest answer {found.slowest:.1f} s; back {found.recovered:.1f} s after it was")
            print(f"  acknowledged: {found.before:,} before, {found.during:,} meanwhile; each counted once")
            print(f"  refused: {dict(found.refused)}, for instance: {found.reason}")
            print(f"  received = scored + shed + rejected + failed: {found.counts}")


if __name__ == "__main__":
    main()
