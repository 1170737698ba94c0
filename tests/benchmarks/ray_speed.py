"""What a second node of a Ray cluster brings, and what Ray costs: two nodes of one processor each against one.

    python -m tests.benchmarks.ray_speed [--prompts 400000]

Each node is a Ray of its own that is held to one processor, labelling worker included, as if it were a machine; the
driver shares the first. The same traffic is labelled by the local engine with as many processes on as many processors.
Needs the ray extra and Linux. Where others use the processors too, the clock says little; the seconds that the busier
of the two was used for say what the clock would have said.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow.parquet as pq

from service.bench.traffic import write_parquet

FILES = 8
TICKS = os.sysconf("SC_CLK_TCK")
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
LABEL = [sys.executable, "-c", "import sys; from service.cli import main; sys.exit(main())", "label"]


class Took(NamedTuple):
    """Seconds by the clock, those of the labelling alone; of all processors, and of the busiest."""

    wall: float
    labelling: float
    processors: float
    busiest: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=400_000)
    n = parser.parse_args().prompts
    os.environ["RAY_AUTH_MODE"] = "disabled"  # for nodes and driver alike, whatever token lies about
    if find_spec("ray") is None:
        sys.exit("This needs the ray extra: pip install 'probewatch[ray]'.")
    processors = sorted(os.sched_getaffinity(0))[:2]
    if len(processors) < 2:
        sys.exit("This needs two processors.")
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        write_files(folder, n)
        print(f"{n:,} prompts in {FILES} files; load of the machine before: {os.getloadavg()[0]:.1f}")
        for nodes in (1, 2):
            show(f"local, {nodes} processes", n, label(folder, processors[:nodes], ["--workers", str(nodes)]))
        took = [on_cluster(folder, processors[:nodes], n) for nodes in (1, 2)]
    print(f"two nodes are {took[0].labelling / took[1].labelling:.2f} x as fast as one by the clock of the labelling,")
    print(f"{took[0].busiest / took[1].busiest:.2f} x by the seconds of the busier processor, start-up included,")
    print(f"and take {took[1].processors / took[0].processors:.2f} x the processor seconds")


def write_files(folder: Path, n: int) -> None:
    write_parquet(folder / "all.parquet", n)
    rows = pq.read_table(folder / "all.parquet")
    for i in range(FILES):
        part = rows.slice(i * n // FILES, (i + 1) * n // FILES - i * n // FILES)
        pq.write_table(part, folder / "in" / f"{i}.parquet", row_group_size=65_536)


def on_cluster(folder: Path, processors: Sequence[int], n: int) -> Took:
    started = time.monotonic()
    with cluster(processors, folder) as address:
        up = time.monotonic() - started
        arguments = ["--engine", "ray", "--address", address, "--workers", str(len(processors))]
        took = label(folder, processors[:1], arguments, in_ray=True)
    show(f"ray, {len(processors)} nodes", n, took)
    print(f"  the nodes took {up:.1f} s to start")
    return took


@contextmanager
def cluster(processors: Sequence[int], folder: Path) -> Iterator[str]:
    """Nodes of one processor each, which end with the block."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    nodes: list[subprocess.Popen[str]] = []
    try:
        address = ""
        for processor in processors:
            place = ["--address", address] if address else ["--head", "--port", "0", "--include-dashboard=false"]
            command = ["taskset", "-c", str(processor), *RAY, "start", *place, "--num-cpus", "1", "--block"]
            room = ["--object-store-memory", str(1 << 29)]
            log = (folder / f"node-{processor}.log").open("w+")
            nodes.append(subprocess.Popen([*command, *room], env=environment, stdout=log, stderr=log, text=True))
            address = address or _address(Path(log.name))
        yield address
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(60)


def _address(log: Path) -> str:
    for _ in range(1_200):
        found = re.search(r"--address='([^']+)'", log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.1)
    sys.exit(f"Ray did not start: {log.read_text()}")


def label(folder: Path, processors: Sequence[int], arguments: Sequence[str], in_ray: bool = False) -> Took:
    out = folder / "run"
    held_to = ["taskset", "-c", ",".join(map(str, processors))]
    command = [*held_to, *LABEL, str(folder / "in"), "--out", str(out), "--fresh", "--quiet", *arguments]
    before, started = _processor_seconds(-1, in_ray), time.monotonic()
    used = dict(before)
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None:
        used |= _processor_seconds(process.pid, in_ray)
        time.sleep(0.2)
    wall = time.monotonic() - started
    if process.returncode != 0:
        sys.exit(f"probewatch label ended with {process.returncode}")
    labelling = json.loads((out / "run.json").read_text())["seconds"]["label"]
    by_processor: Counter[str] = Counter()
    for pid, use in used.items():
        by_processor[use.where] += use.seconds - (before[pid].seconds if pid in before else 0)
    return Took(wall, labelling, by_processor.total(), max(by_processor.values()))


class Use(NamedTuple):
    """Processors that a process is held to, and the seconds it used of them."""

    where: str
    seconds: float


def _processor_seconds(session: int, in_ray: bool) -> dict[int, Use]:
    """Of each process of a session, and of each of Ray."""
    used = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        pid = int(stat.parent.name)
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
            where = str(sorted(os.sched_getaffinity(pid)))
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == session or (in_ray and "ray" in command):
            used[pid] = Use(where, (int(fields[11]) + int(fields[12])) / TICKS)
    return used


def show(what: str, n: int, took: Took) -> None:
    print(
        f"{what}: {n / took.labelling:,.0f} prompts/s, {took.labelling:.1f} s of labelling, {took.wall:.1f} s in all,"
    )
    print(f"  {took.processors:.1f} s of processors")


if __name__ == "__main__":
    main()
