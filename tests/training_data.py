"""Training data for tests: the three public files, small, of the sample traffic and of our own templates."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np

from classifier.taxonomy import data_dir

SAMPLE = data_dir() / "sample" / "traffic.jsonl"


def write_data(folder: Path) -> None:
    """The three data files, small, from the sample traffic and our own templates."""
    import pandas as pd

    folder.mkdir()
    records = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    texts = sorted({record["prompt"] for record in records if "prompt" in record})[:960]
    families = tomllib.loads((data_dir() / "templates" / "own.toml").read_text(encoding="utf-8"))["family"][:4]
    known = ("oss_instruct", "camel_code", "r1_system_trace", "lumos_plan_conversion")
    labels = ("coding", "agentic_reasoning", "long_horizon_planning", "other")
    common = {"path": "", "commit": "", "license": "", "lang": "en", "cut": False}
    prompts = [
        {"text": text, "label": labels[i % 4], "source": f"s{i % 32}", "kind": ("human", "benchmark")[i % 2],
         "variant": None, "conversation": f"c{i // 8}", "dataset": f"d{i % 32}",
         "group": "organic", "gold": None, "gold_sure": np.nan,
         **common}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    extraction = [
        {"text": family["text"].replace("{", text[:40]).replace("}", ""), "family": name, "capability": "coding",
         "source": f"x{n}", "fidelity": "", "has_template": True, **common}
        for n, (family, name) in enumerate(zip(families, known, strict=True))
        for text in texts[:40]
    ]  # fmt: skip
    benign = [
        {"text": f"{texts[app][:200]} Answer for customer {i}: {text}", "app": f"app{app}", "kind": "support",
         "uses_capability": "other", "source": f"r{app % 4}", "ambiguous": False, **common}
        for app in range(12)
        for i, text in enumerate(texts[app * 20 : app * 20 + 20])
    ]  # fmt: skip
    for name, rows in (("prompts", prompts), ("extraction_traffic", extraction), ("benign_apps", benign)):
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
