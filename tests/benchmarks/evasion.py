"""How many uses of known templates are found, as they are and disguised, and what is matched that should not be.

    python -m tests.benchmarks.evasion --data DIR [--rows N]

Signatures are built from three quarters of the payloads, of the people's prompts and of the repositories; what is
printed is of the fourth: prompts of known families with payloads never seen, people and applications never seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import beta

from classifier.bundle import default_bundle_dir
from classifier.encoder import StaticEncoder
from classifier.pipeline import Pipeline
from classifier.reveal import reveal_all
from classifier.templates import Matches, TemplateIndex
from classifier.text import normalise_text
from classifier.types import Tier
from tests.disguises import EXACT, LOSSY, Disguise

QUARTERS, SEED, BLOCK = 4, 0, 512


def upper_bound(k: int, n: int) -> float:
    """Upper end of the two-sided 95 % Clopper-Pearson interval of a share."""
    return 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


def split(rows: pd.DataFrame) -> np.ndarray:
    """True for what is not learnt from."""
    from training.prepare import BENIGN, EXTRACTION, PROMPT, payload_buckets

    held = np.zeros(len(rows), bool)
    extraction = (rows["role"] == EXTRACTION).to_numpy()
    held[extraction] = payload_buckets(rows[extraction].reset_index(drop=True), QUARTERS) == 0
    rng = np.random.default_rng(SEED)
    people = (rows["role"] == PROMPT).to_numpy()
    drawn = dict(zip(sorted(set(rows["lineage"])), rng.random(rows["lineage"].nunique()), strict=True))
    held[people] = rows["lineage"][people].map(drawn).to_numpy() < 1 / QUARTERS  # near-duplicates go together
    repositories = sorted(set(rows["source"][rows["role"] == BENIGN]))
    return held | rows["source"].isin(repositories[::QUARTERS]).to_numpy() & (rows["role"] == BENIGN).to_numpy()


def matches_of(texts: Sequence[str], index: TemplateIndex, encoder: StaticEncoder) -> list[Matches]:
    meant = [normalise_text(revealed.text) for revealed in reveal_all(texts)]
    blocks = (meant[i : i + BLOCK] for i in range(0, len(meant), BLOCK))
    return [index.match(encoder.encode(block)) for block in blocks]


def matched(texts: Sequence[str], index: TemplateIndex, encoder: StaticEncoder) -> np.ndarray:
    """Signature that each text matches, -1 if none."""
    return np.concatenate([m.index for m in matches_of(texts, index, encoder)] or [np.empty(0, int)])


def line(name: str, rows: pd.DataFrame, found: np.ndarray, families: np.ndarray) -> str:
    hit = found >= 0
    right = families[found[hit]] == rows["part"].to_numpy()[hit]
    by_family = pd.Series(hit).groupby(rows["part"].to_numpy()).mean()
    worst = ", ".join(f"{name} {share:.2f}" for name, share in by_family.nsmallest(4).items() if share < 0.98)
    return f"{name:18}{len(rows):7,}{hit.mean():9.2%}{right.mean():9.2%}   {worst}"


def inside_application(text: str, application: str) -> str:
    """A prompt in the middle of an application's, between two of its lines."""
    lines = application.split("\n")
    return "\n".join([*lines[: len(lines) // 2 + 1], text, *lines[len(lines) // 2 + 1 :]])


def main() -> None:
    from training.assemble import build_index
    from training.prepare import BENIGN, EXTRACTION, PROMPT, prepare

    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=40, help="prompts a family")
    arguments = parser.parse_args()
    rows = prepare(arguments.data, SEED)
    held = split(rows)
    encoder = Pipeline.load(default_bundle_dir()).labeler.encoder
    index = build_index(rows[~held].reset_index(drop=True), encoder, SEED)
    facts = [signature.facts for signature in index.signatures]
    families = np.array([fact.family for fact in facts])
    uses = rows[held & (rows["role"] == EXTRACTION) & rows["has_template"] & rows["part"].isin(families)]
    uses = uses.groupby("part").head(arguments.rows).reset_index(drop=True)
    texts = uses["whole"].tolist()
    print(f"{len(facts)} signatures, {uses['part'].nunique()} families\n")
    print(f"{'disguise':18}{'prompts':>7}{'matched':>9}{'right':>9}   families least found")
    disguises: dict[str, Disguise] = {"none": lambda text, rng: text, **EXACT, **LOSSY}
    for name, disguise in disguises.items():
        rng = np.random.default_rng(SEED)
        changed = [disguise(text, rng) for text in texts]
        print(line(name, uses, matched(changed, index, encoder), families), flush=True)
    applications = rows[(rows["role"] == BENIGN)].groupby("part")["whole"].first().tolist()
    rng = np.random.default_rng(SEED)
    inside = [inside_application(text, applications[int(rng.integers(len(applications)))]) for text in texts]
    print(line("in_application", uses, matched(inside, index, encoder), families))
    print()
    exclusive = np.array([fact.tier is Tier.EXCLUSIVE for fact in facts] + [False])
    people = rows[held & (rows["role"] == PROMPT) & (rows["kind"] == "human")]
    found = matched(people["whole"].tolist(), index, encoder)
    for name, hit in (("any", found >= 0), ("exclusive", exclusive[found])):
        k, n = int(hit.sum()), len(hit)
        print(f"prompts of people that match {name}: {k} of {n:,} (95 % bound {upper_bound(k, n):.4%})")
    apps = rows[held & (rows["role"] == BENIGN)]
    found = matched(apps["whole"].tolist(), index, encoder)
    for name, hit in (("any", found >= 0), ("exclusive", exclusive[found])):
        shares = pd.Series(hit).groupby(apps["part"].to_numpy()).mean()
        over = shares[shares > 0.01]
        print(f"applications never seen with over 1 % matched by {name}: {len(over)} of {len(shares)}", end="")
        print(f" (95 % bound {upper_bound(len(over), len(shares)):.2%})", *over.index[:8])


if __name__ == "__main__":
    sys.exit(main())
