"""Traffic to measure speed on: sentences of the sample traffic, put together at random to 500 bytes, all but distinct.

Says nothing about detection: prompts are no one's and match no template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from classifier.bundle import data_dir
from service.bench.broken import WAYS

BYTES = 500
PROMPTS_AN_ACCOUNT = 300
ROWS = 65_536
START_US = 1_788_220_800_000_000  # September 2026
STEP_US = 100_000
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    [("event_id", pa.string()), ("account_id", pa.string()), ("timestamp", _TIMESTAMP), ("prompt", pa.string())]
)


def write_parquet(path: Path, n: int, seed: int = 0) -> None:
    """n events of the plain format."""
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for batch in _batches(n, seed):
            writer.write_batch(batch)


def write_openai(path: Path, n: int, broken: float = 0, seed: int = 0) -> int:
    """n requests of an OpenAI batch file, of which a share is `broken`; returns how many are."""
    rng, n_broken = np.random.default_rng(seed), 0
    with path.open("wb") as file:
        for batch in _batches(n, seed):
            for event, spoilt in zip(batch.to_pylist(), (rng.random(len(batch)) < broken).tolist(), strict=True):
                request = _request(event)
                file.write(WAYS[n_broken % len(WAYS)](request) if spoilt else orjson.dumps(request))
                file.write(b"\n")
                n_broken += spoilt
    return n_broken


def _request(event: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": event["prompt"]}]
    body = {"model": "batch-model", "user": event["account_id"], "messages": messages}
    return {"custom_id": event["event_id"], "method": "POST", "url": "/v1/chat/completions", "body": body}


def prompts(n: int, seed: int = 0) -> list[str]:
    rng, pieces = np.random.default_rng(seed), sentences()
    return [compose(pieces, rng) for _ in range(n)]


def sentences() -> list[str]:
    """Distinct sentences of what the sample's ordinary accounts sent, sorted."""
    sample = data_dir() / "sample"
    truth = json.loads((sample / "truth.json").read_text(encoding="utf-8"))
    records = map(json.loads, (sample / "traffic.jsonl").read_text(encoding="utf-8").splitlines())
    ordinary = (record for record in records if truth["accounts"][record["account_id"]]["campaign"] is None)
    prompts = (record["prompt"] for record in ordinary if "prompt" in record)
    return sorted({piece.strip() for prompt in prompts for piece in prompt.replace("\n", ". ").split(". ") if piece})


def compose(pieces: list[str], rng: np.random.Generator) -> str:
    """Sentences drawn at random, cut at BYTES."""
    chosen, length = [], 0
    while length < BYTES:
        piece = pieces[int(rng.integers(len(pieces)))]
        chosen.append(piece)
        length += len(piece.encode()) + 2
    return ". ".join(chosen)[:BYTES]


def _batches(n: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Events in order of time, an account for every PROMPTS_AN_ACCOUNT."""
    rng, pieces = np.random.default_rng(seed), sentences()
    for first in range(0, n, ROWS):
        rows = range(first, min(first + ROWS, n))
        columns = [
            pa.array([f"event-{i}" for i in rows]),
            pa.array([f"account-{i}" for i in rng.integers(1 + n // PROMPTS_AN_ACCOUNT, size=len(rows))]),
            pa.array(START_US + np.array(rows) * STEP_US).cast(_TIMESTAMP),
            pa.array([compose(pieces, rng) for _ in rows]),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)
