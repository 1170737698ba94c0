"""Requests a second of the scoring service, beside an empty FastAPI endpoint with the same models. Ratios count: the
load generator shares the processors.

    python -m tests.benchmarks.serve [--seconds 5] [--store URL]
    python -m tests.benchmarks.serve --kills 30      # kill -9 under load, SQLite and PostgreSQL

Every line shows the server's own processor time too, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.killing import assert_counted_once, kill_under_load
from tests.serving import Process
from tests.stores import postgres_server

BYTES = 500
SUBJECTS = 5_000
ACCOUNTS = 1_000
EMPTY = """
import uvicorn, sys
from fastapi import FastAPI
from service.http.models import EventIn, ScoreOut
app = FastAPI()
said = {
    "event_id": "x", "bundle_id": "b", "catalogue_id": "none",
    "prompt": {"capability": "coding", "p_extraction": 0.1, "template": None,
        "probabilities": {"coding": 0.5, "agentic_reasoning": 0.1, "long_horizon_planning": 0.2}},
    "account": {"account_id": "a", "decision": "clear", "capabilities": [], "n_prompts": 1, "campaign_id": None,
        "log10_e": {"coding": 0.0, "agentic_reasoning": 0.0, "long_horizon_planning": 0.0, "other": 0.0},
        "verdict_as_of": "2026-01-01T00:00:00Z"},
}
@app.post("/v1/score")
async def score(event: EventIn) -> ScoreOut:
    return ScoreOut(**said)
@app.get("/readyz")
async def ready() -> str:
    return "ready"
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
"""


@dataclass(frozen=True)
class Measured:
    """What a load came to: requests a second, latency in ms, and answers by status."""

    rate: float
    p50: float
    p99: float
    statuses: Counter[int]
    cpu: float  # microseconds of the server's processor time a request

    def line(self, name: str, events: int = 1) -> str:
        rate = f"{self.rate:9,.0f} requests/s {self.rate * events:9,.0f} prompts/s"
        latency = f"p50 {self.p50:6.1f} ms   p99 {self.p99:6.1f} ms"
        return f"{name:<34}{rate}   {latency}   {self.cpu:7,.0f} us CPU   {dict(self.statuses)}"


def bodies(n: int) -> list[bytes]:
    """Bodies of requests with n events each, of 500 bytes of prompt, no two prompts alike."""
    texts = [
        f"Write a parser for log format {i}. {'Keep all tests green while you do. ' * 15}"[:BYTES]
        for i in range(SUBJECTS)
    ]
    events = [{"account_id": f"account-{i % ACCOUNTS}", "prompt": text} for i, text in enumerate(texts)]
    if n == 1:
        return [json.dumps(event).encode() for event in events]
    return [json.dumps({"events": events[i : i + n]}).encode() for i in range(0, SUBJECTS - n, n)]


def processor_seconds(pid: int) -> float:
    """That a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(
    process: subprocess.Popen[bytes], port: int, path: str, sent: Sequence[bytes], connections: int, seconds: float
) -> Measured:
    """Send over keep-alive connections, each as soon as it is answered. Bare sockets: a client library costs more than
    the server."""
    until, took, statuses = time.perf_counter() + seconds, list[float](), Counter[int]()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "

    async def one(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        i = first
        while time.perf_counter() < until:
            body = sent[i % len(sent)]
            i += connections
            began = time.perf_counter()
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = answer.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            took.append(time.perf_counter() - began)
            statuses[int(answer[9:12])] += 1
        writer.close()

    began, cpu = time.perf_counter(), processor_seconds(process.pid)
    await asyncio.gather(*(one(i) for i in range(connections)))
    lasted, took = time.perf_counter() - began, sorted(took)
    used = (processor_seconds(process.pid) - cpu) / len(took) * 1e6
    return Measured(len(took) / lasted, took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3, statuses, used)


def measure(store: str, seconds: float) -> None:
    server = Process(store)
    empty = subprocess.Popen([sys.executable, "-c", EMPTY, str(server.port + 1)])
    began = time.perf_counter()
    server.start()
    print(f"{'cold start to ready':<34}{time.perf_counter() - began:9.2f} s")
    single = bodies(1)
    try:
        asyncio.run(load(server.process, server.port, "/v1/score", single, 8, 1))  # warm
        for connections in (1, 8, 32, 64):
            base = asyncio.run(load(empty, server.port + 1, "/v1/score", single, connections, seconds))
            ours = asyncio.run(load(server.process, server.port, "/v1/score", single, connections, seconds))
            print(base.line(f"empty endpoint, {connections} connections"))
            print(
                ours.line(f"/v1/score, {connections} connections"),
                f"  {ours.rate / base.rate:.0%} of the empty one, by CPU {base.cpu / ours.cpu:.0%}",
            )
        batch = asyncio.run(load(server.process, server.port, "/v1/score/batch", bodies(256), 2, seconds))
        print(batch.line("/v1/score/batch of 256", 256))
        events = [
            line
            for line in httpx.get(f"{server.url}/metrics").text.splitlines()
            if line.startswith("probewatch_events")
        ]
        print("\n".join(line for line in events if "_total" in line))
    finally:
        server.kill()
        empty.kill()
        empty.wait()


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--store", help="default: a new SQLite file")
    parser.add_argument("--kills", type=int, default=0)
    given = parser.parse_args()
    if given.kills:
        kill(given.kills)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(given.store if given.store is not None else f"sqlite:///{Path(folder) / 'store.db'}", given.seconds)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
