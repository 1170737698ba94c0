"""`probewatch bench label`: how fast historical traffic is labelled here, and against the obvious way to write it.

generated traffic -> `probewatch label` in processes of its own -> figures
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from service.bench.commands import Took, run_probewatch
from service.bench.measures import Measure
from service.bench.traffic import BYTES, prompts, write_openai, write_parquet

BROKEN_SHARE = 0.01
BASELINE_PROMPTS = 128


class _Labelled(NamedTuple):
    took: Took
    rejected: int


def measure_label(
    folder: Path,
    n: int,
    largest: int,
    obvious_seconds: Callable[[Sequence[str]], float] | None,
    say: Callable[[str], None],
) -> Iterator[Measure]:
    """Figures on n prompts, and how cost grows up to `largest`. `say` hears what is being measured.

    `obvious_seconds`: what the obvious way takes for some texts; None where its libraries are not installed.

    Raises:
        OutputError: no room in the folder.
    """
    say(f"{n:,} prompts, Parquet")
    write_parquet(folder / "traffic.parquet", n)
    plain = _label(folder / "traffic.parquet").took
    speed, note = n / plain.seconds, f"{n:,} prompts of {BYTES} bytes, Parquet in, all outputs out"
    yield Measure("label", speed, "prompts/s", note)
    yield Measure("label, processors", 1e6 * plain.processor_seconds / n, "us a prompt", note)
    yield Measure("label, memory", plain.peak_mib, "MiB", "most that the command and its workers held at once")
    yield from _json_lines(folder, n, say)
    yield from _growth(folder, n, largest, say)
    if obvious_seconds is None:
        say("the obvious way is not measured: it needs the training extra")
        return
    say("the obvious way")
    yield from _against_the_obvious(speed, obvious_seconds)


def _json_lines(folder: Path, n: int, say: Callable[[str], None]) -> Iterator[Measure]:
    say(f"{n:,} prompts, JSONL, then with 1 % of lines broken")
    source, spoilt = folder / "traffic.jsonl", folder / "spoilt.jsonl"
    write_openai(source, n)
    n_broken = write_openai(spoilt, n, BROKEN_SHARE)
    clean, broken = _label(source), _label(spoilt)
    yield Measure("label, JSONL", n / clean.took.seconds, "prompts/s", "OpenAI chat completions as logged")
    slower = broken.took.processor_seconds / clean.took.processor_seconds
    yield Measure(
        "label, 1 % broken", slower, "x the cost", f"{broken.rejected:,} of {n_broken:,} broken lines rejected"
    )


def _growth(folder: Path, n: int, largest: int, say: Callable[[str], None]) -> Iterator[Measure]:
    """Processor time a prompt against that of the run before, a tenth as large; start-up is the same for all."""
    size, before = n // 10, None
    while size <= largest:
        say(f"growth: {size:,} prompts")
        write_parquet(folder / "growing.parquet", size, seed=1)
        cost = _label(folder / "growing.parquet").took.processor_seconds / size
        if before is not None:
            yield Measure(f"cost at {size:,}", cost / before, f"x that at {size // 10:,}", "processor time a prompt")
        size, before = size * 10, cost


def _against_the_obvious(speed: float, seconds_for: Callable[[Sequence[str]], float]) -> Iterator[Measure]:
    slow = BASELINE_PROMPTS / seconds_for(prompts(BASELINE_PROMPTS))
    note = f"sentence-transformers MiniLM, faiss, scikit-learn on {BASELINE_PROMPTS} of the prompts"
    yield Measure("the obvious way", slow, "prompts/s", note)
    yield Measure("label against it", speed / slow, "x", "both here, one after the other")


def _label(source: Path) -> _Labelled:
    out = source.with_suffix(".run")
    took = run_probewatch(["label", str(source), "--out", str(out), "--fresh", "--quiet"])
    document = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return _Labelled(took, document["counts"]["rejected"])
