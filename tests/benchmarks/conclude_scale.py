"""What the end of a large run costs: merging evidence, verdicts, campaigns, tables; seconds and peak memory.

    python -m tests.benchmarks.conclude_scale [--prompts 10000000] [--accounts 1000000] [--folder FOLDER]

The parts are generated, not labelled: labels and units drawn at random, of which one account in a hundred has a quarter
of its prompts match. A fifth of the prompts share a scaffold with others. They need about 90 bytes a prompt on disk,
and as much again while they are merged.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from classifier.bundle import default_bundle_dir
from classifier.pipeline import Pipeline
from classifier.types import CAPABILITIES, LABEL_SCHEMA, TARGETS, UNIT_SCHEMA, Channel
from classifier.units import merge_units
from service.findings import Ran, conclude
from service.records import ROWS_PER_PART
from service.run import PartFacts, Recorded, Settings, open_run

DIGEST = "0" * 32
DAYS, DAY_US = 45, 86_400_000_000
SHARED_SCAFFOLDS = 20_000
BAD, SHARE = 0.01, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=10_000_000)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the run is made (default: a temporary folder)")
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.folder) as folder:
        measure(Path(folder) / "run", given.prompts, given.accounts)


def measure(path: Path, n_prompts: int, n_accounts: int) -> None:
    """Generate parts, conclude the run, print what it took."""
    pipeline = Pipeline.load(default_bundle_dir())
    settings = Settings(pipeline.bundle_id, pipeline.catalogue_id, "plain", ROWS_PER_PART)
    families = exclusive_families(pipeline)
    with open_run(path, settings) as folder:
        folder.record([Recorded("generated", "generated", DIGEST, n_prompts)])
        rng = np.random.default_rng(0)
        for ordinal, first in enumerate(range(0, n_prompts, ROWS_PER_PART)):
            n = min(ROWS_PER_PART, n_prompts - first)
            labels, units = draw(rng, first, n, n_prompts, n_accounts, families)
            facts = PartFacts(n, n, 0, 0, first + n == n_prompts)
            folder.write_part(f"{DIGEST[:16]}-{ordinal:06d}", labels, units, [], facts)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started, cpu = time.monotonic(), time.process_time()
        summary = conclude(folder, pipeline, None, Ran("local", 2, 2), {}, ())
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    accounts = sum(summary.decisions.values())
    print(f"{n_prompts:,} prompts of {accounts:,} accounts: {seconds:.0f} s, {cpu:.0f} s of processors,")
    print(f"{1e6 * cpu / n_prompts:.2f} us a prompt; peak memory {peak:,.0f} MiB ({before:,.0f} before)")


def exclusive_families(pipeline: Pipeline) -> list[str]:
    facts = [signature.facts for signature in pipeline.labeler.templates.signatures]
    return sorted({fact.family for fact in facts if fact.tier == "exclusive"})[:3]


def draw(
    rng: np.random.Generator, first: int, n: int, n_prompts: int, n_accounts: int, families: list[str]
) -> tuple[pa.Table, pa.Table]:
    """Labels and units of prompts first..first + n - 1 of a run, in order of time."""
    account = (n_accounts * rng.random(n) ** 2).astype(np.int64)  # some send more than others
    family = np.where(
        (account % round(1 / BAD) == 0) & (rng.random(n) < SHARE), rng.integers(len(families), size=n), -1
    )
    shared = rng.random(n) < 0.2
    scaffold = np.where(shared, rng.integers(SHARED_SCAFFOLDS, size=n), rng.integers(2**62, size=n)).astype(np.uint64)
    scaffold *= np.uint64(0x9E3779B97F4A7C15)  # hashes are spread evenly
    key = rng.integers(2**63, size=n).astype(np.uint64)
    p = rng.beta(1, 8, size=n).astype(np.float32)
    common = {
        "account_id": pa.array([f"acct-{i:08d}" for i in account]),
        "timestamp": pa.array(((first + np.arange(n)) * (DAYS * DAY_US / n_prompts)).astype(np.int64)).cast(
            LABEL_SCHEMA.field("timestamp").type
        ),
        "event_id": pa.array([f"event-{first + i:010d}" for i in range(n)]),
    }
    names = pa.array([*families, None], pa.string()).take(pa.array(np.where(family < 0, len(families), family)))
    labels = common | {
        "capability": pa.array(TARGETS).take(pa.array(rng.integers(4, size=n))),
        **{f"p_{name}": pa.array(p) for name in CAPABILITIES},
        "p_extraction": pa.array(p),
        "template_family": names,
        "technique": names,
        "unit": pa.array(key),
        "scaffolds": pa.array(
            [[a, b] for a, b in zip(scaffold.tolist(), key.tolist(), strict=True)], pa.list_(pa.uint64())
        ),
    }
    matched = family >= 0
    signature = common | {
        "channel": full(n, Channel.SIGNATURE),
        "key": pa.array(key),
        "y": pa.array(matched.astype(np.uint8)),
        "matched": pa.array(matched.astype(np.uint8)),
        "family": names,
    }
    intent = common | {
        "channel": full(n, Channel.INTENT),
        "key": pa.array(scaffold),
        **{f"level_{name}": pa.array(np.rint(7 * p / 4).astype(np.uint8)) for name in TARGETS},
    }
    units = [as_table(signature, UNIT_SCHEMA, n), as_table(intent, UNIT_SCHEMA, n).filter(pa.array(~matched))]
    return as_table(labels, LABEL_SCHEMA, n), merge_units(units)


def full(n: int, value: int) -> pa.Array:
    return pa.array(np.full(n, value, np.uint8))


def as_table(columns: dict[str, pa.Array], schema: pa.Schema, n: int) -> pa.Table:
    """Columns that are absent are null, or 0 where they may not be."""
    missing = {f.name: pa.nulls(n, f.type) if f.nullable else full(n, 0) for f in schema if f.name not in columns}
    return pa.table([(columns | missing)[name] for name in schema.names], schema=schema)


if __name__ == "__main__":
    main()
