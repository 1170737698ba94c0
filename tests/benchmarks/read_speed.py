"""What reading costs: `python -m tests.benchmarks.read_speed [N]`, records of about 800 bytes, prompts of 500.

Processor time of this process alone; the median of five passes over the same file.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from service.records import expand_inputs, read_parts

N = 100_000
PASSES = 5
START = 1_777_593_600
SENTENCE = "Please compare the two drafts of the letter and tell me which of them is clearer, and why that is so. "


def prompts(n: int) -> Iterator[tuple[int, str]]:
    """Numbers and prompts of about 500 bytes, no two alike."""
    return ((i, f"Draft {i}: {SENTENCE * 5}"[:500]) for i in range(n))


def plain(i: int, prompt: str) -> dict[str, Any]:
    """A record of the plain format."""
    return {"account_id": f"account-{i % 1000}", "timestamp": START + i, "system": "Be brief.", "prompt": prompt}


def openai(i: int, prompt: str) -> dict[str, Any]:
    """A request to OpenAI's chat API."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    return {
        "model": "gpt-4.1-mini",
        "user": f"account-{i % 1000}",
        "created": START + i,
        "messages": messages,
        "temperature": 0.2,
        "max_completion_tokens": 1024,
        "stream": False,
        "metadata": {"team": "letters", "release": "2026-05"},
    }


def openai_batch(i: int, prompt: str) -> dict[str, Any]:
    """A line of a request file of OpenAI's Batch API."""
    return {"custom_id": f"request-{i}", "method": "POST", "url": "/v1/chat/completions", "body": openai(i, prompt)}


def openai_pair(i: int, prompt: str) -> dict[str, Any]:
    """A request and its response."""
    message = {"role": "assistant", "content": "The second is clearer: it says first what it is about."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": f"chatcmpl-{i:032x}", "object": "chat.completion", "created": START + i, "choices": [choice]}
    return {"request": openai(i, prompt), "response": answer}


def otel(i: int, prompt: str) -> dict[str, Any]:
    """An OTLP export of one span."""
    said = [{"role": "user", "parts": [{"type": "text", "content": prompt}]}]
    attributes = {
        "gen_ai.operation.name": "chat",
        "enduser.id": f"account-{i % 1000}",
        "gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]',
        "gen_ai.input.messages": orjson.dumps(said).decode(),
    }
    listed = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    span = {
        "traceId": f"{i:032x}",
        "spanId": f"{i:016x}",
        "startTimeUnixNano": str((START + i) * 10**9),
        "attributes": listed,
    }
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [span]}]}]}


SHAPES: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "plain": plain,
    "openai": openai,
    "openai, 1 % bad": lambda i, prompt: broken(i, openai(i, prompt)),
    "openai batch": openai_batch,
    "openai pair": openai_pair,
    "otel": otel,
}


def broken(i: int, record: dict[str, Any]) -> dict[str, Any]:
    """The record; one in a hundred lacks its account."""
    return {**record, "user": None} if i % 100 == 0 else record


def seconds_of(path: Path, n: int) -> float:
    """Processor time of reading a file of n records, good or bad."""
    (file,) = expand_inputs([str(path)])
    taken = []
    for _ in range(PASSES):
        started = time.process_time()
        n_read = sum(part.n_read for part in read_parts(file))
        taken.append(time.process_time() - started)
        assert n_read == n
    return statistics.median(taken)


def main() -> None:
    """Print the table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else N
    print(f"{'what':<22}{'bytes each':>12}{'CPU us each':>13}{'records/s':>12}")
    with tempfile.TemporaryDirectory() as folder:
        files = {"plain, Parquet": Path(folder, "plain.parquet")}
        pq.write_table(pa.Table.from_pylist([plain(*item) for item in prompts(n)]), files["plain, Parquet"])
        for name, shape in SHAPES.items():
            files[f"{name}, JSONL"] = path = Path(folder, f"{name}.jsonl")
            path.write_bytes(b"".join(orjson.dumps(shape(*item)) + b"\n" for item in prompts(n)))
        for name, path in files.items():
            each = seconds_of(path, n) / n
            print(f"{name:<22}{path.stat().st_size / n:>12,.0f}{each * 1e6:>13.2f}{1 / each:>12,.0f}")


if __name__ == "__main__":
    main()
