"""How many later uses a template learnt from a few samples finds, and what it matches that it should not.

    python -m tests.benchmarks.induction --data DIR [--draws N] [--only NAME] [--without-rivals]

For each family of extraction_traffic.parquet that has a template, and some applications of benign_apps.parquet: samples
are drawn, spread over three accounts, and `service.proposals.propose` makes signatures beside a bundle that lacks the
family. Counted are the family's prompts with payloads that no sample has, all prompts of people, and applications.
Rivals get the same samples, and for each family the threshold that does best on all others: MinHash (datasketch; a
prompt matches whose estimated Jaccard similarity to a sample reaches the threshold) and Drain3 (line templates).
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from classifier.bundle import default_bundle_dir
from classifier.encoder import Encoded
from classifier.errors import InputError
from classifier.labeler import Labeler
from classifier.pipeline import Pipeline
from classifier.signing import Family
from classifier.templates import TemplateIndex
from classifier.text import normalise_text
from classifier.types import Tier
from service.prompts import Prompts, joined_prompts, sample_ordinary
from service.proposals import Proposal, propose
from service.template_checks import collisions

SIZES = (5, 10, 20, 50)
MAIN_SIZE = 10
ACCOUNTS, SEED, BLOCK = 3, 0, 512
MOST_USES = 300
LEAST_USES = 20
AGAINST = 3_000
AGENT_SETS = ("bfcl", "tooleyes")  # a person's ask inside the system prompt of a tool-use harness: text of the families
BENIGN_APPS = 40  # applications that signatures are made of
ROWS_AN_APP = 20  # rows of each application that false matches are counted in
TARGET = 0.98


@dataclass(frozen=True)
class Corpus:
    """What signatures are made of and measured on. `families`: distinct rows by name, with `whole` and `payload`.
    `agents`: which prompts of people stand inside the templates of AGENT_SETS."""

    families: dict[str, pd.DataFrame]
    apps: dict[str, pd.DataFrame]
    people: list[str]
    agents: NDArray[np.bool_]
    app_rows: pd.DataFrame


@dataclass(frozen=True)
class Drawn:
    """Samples of a family, and its later uses, whose payloads no sample has. Texts as sent."""

    samples: list[str]
    uses: list[str]


@dataclass(frozen=True)
class Outcome:
    """Of one draw. Shares of later uses: `found` by the new signatures, `known` by any. Counts of what the new ones
    match: `people`, of whom `agents` speak inside the templates of AGENT_SETS; `app_rows`; and `apps_over`, the
    applications of which they match more than 1 %."""

    n_signatures: int
    found: float
    known: float
    people: int
    agents: int
    apps_over: int
    app_rows: int
    refusal: str


def upper_bound(k: int, n: int) -> float:
    """Upper end of the two-sided 95 % Clopper-Pearson interval of a share."""
    return 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


# --- what is drawn ----------------------------------------------------------------------------------------------------


def read_corpus(data: Path) -> Corpus:
    """Families by name with a payload key a row; distinct prompts of people, some of them apart."""
    extraction = pd.read_parquet(data / "extraction_traffic.parquet")
    extraction = extraction[extraction["has_template"]].rename(columns={"family": "part", "text": "whole"})
    benign = pd.read_parquet(data / "benign_apps.parquet")
    benign = benign[~benign["ambiguous"]].rename(columns={"app": "part", "text": "whole"})
    people = pd.read_parquet(data / "prompts.parquet")
    people = people[people["kind"] == "human"].sample(frac=1, random_state=SEED)
    agents = people["dataset"].isin(AGENT_SETS).to_numpy()
    apps = _by_part(benign)
    chosen = sorted(apps)[:: max(1, len(apps) // BENIGN_APPS)]
    shown = benign.groupby("part").head(ROWS_AN_APP).reset_index(drop=True)
    return Corpus(_by_part(extraction), {name: apps[name] for name in chosen}, people["text"].tolist(), agents, shown)


def _by_part(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    from training.prepare import payload_buckets

    rows = rows[~rows.duplicated(["part", "whole"])].reset_index(drop=True)
    rows = rows.assign(payload=payload_buckets(rows, 2**31))
    return {str(name): part.reset_index(drop=True) for name, part in rows.groupby("part", sort=True)}


def draw(rows: pd.DataFrame, n: int, seed: int) -> Drawn | None:
    """n samples and the rows that share no payload with them; None if there are too few."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(rows))[:n]
    later = rows[~rows["payload"].isin(rows["payload"].iloc[chosen])]
    if len(chosen) < n or len(later) < LEAST_USES:
        return None
    uses = later["whole"].sample(min(MOST_USES, len(later)), random_state=seed).tolist()
    return Drawn(rows["whole"].iloc[chosen].tolist(), uses)


def prompts_of(texts: Sequence[str], accounts: int, name: str) -> Prompts:
    """Prompts dealt out to accounts in turn."""
    senders = [f"{name}-{i % accounts}" for i in range(len(texts))]
    return Prompts(list(texts), [normalise_text(text) for text in texts], senders)


# --- the product's own path -------------------------------------------------------------------------------------------


class Bench:
    """What every draw is measured on, encoded once."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.labeler = Pipeline.load(default_bundle_dir()).labeler
        self.sample = sample_ordinary()
        own = prompts_of(corpus.people[:AGAINST], AGAINST, "own")
        self.against = joined_prompts([self.sample.of_source("sample"), own])
        self.people = self._encode(corpus.people)
        self.apps = self._encode(corpus.app_rows["whole"].tolist())

    def _encode(self, texts: Sequence[str]) -> list[Encoded]:
        blocks = (texts[i : i + BLOCK] for i in range(0, len(texts), BLOCK))
        return [self.labeler.encoder.encode([normalise_text(text) for text in block]) for block in blocks]

    def without(self, family: str, with_benign: bool = True) -> Labeler:
        """The labeler of a bundle that has never seen a family nor those of the same wording, or no application."""
        known = self.labeler.templates.signatures
        own = [signature for signature in known if signature.facts.family == family]
        others = [signature for signature in known if signature.facts.family != family]
        siblings = {pair.other.family for pair in collisions(own, others)}
        kept = [
            signature
            for signature in others
            if signature.facts.family not in siblings and (with_benign or signature.facts.tier is not Tier.BENIGN)
        ]
        labeler = copy.copy(self.labeler)
        labeler.templates = TemplateIndex.build(kept, self.labeler.templates.shingler, self.labeler.encoder.dimensions)
        return labeler

    def measured(self, family: Family, drawn: Drawn, with_against: bool) -> Outcome:
        """Propose, and count. People whose prompts stand in for ordinary traffic are not counted."""
        labeler = self.without(family.name)
        proposals, refusal = self.proposed(family, drawn.samples, labeler, with_against)
        old, new = labeler.templates, [one.signature for one in proposals]
        index = old.with_signatures(new)
        uses, first = matched(index, self._encode(drawn.uses)), AGAINST if with_against else 0
        people = (matched(index, self.people) >= len(old.signatures)).any(axis=0)[first:]
        stranger = self.without(family.name, with_benign=False).templates
        apps = matched(stranger.with_signatures(new), self.apps)
        over = pd.Series((apps >= len(stranger.signatures)).any(axis=0)).groupby(self.corpus.app_rows["part"])
        return Outcome(
            n_signatures=len(new),
            found=float((uses >= len(old.signatures)).any(axis=0).mean()),
            known=float((uses >= 0).any(axis=0).mean()),
            people=int(people.sum()),
            agents=int((people & self.corpus.agents[first:]).sum()),
            apps_over=int((over.mean() > 0.01).sum()),
            app_rows=int((apps >= len(stranger.signatures)).any(axis=0).sum()),
            refusal=refusal,
        )

    def proposed(
        self, family: Family, samples: Sequence[str], labeler: Labeler, with_against: bool
    ) -> tuple[list[Proposal], str]:
        """What `templates add` proposes, or how it begins to refuse."""
        ordinary = self.against if with_against else self.sample
        try:
            return propose(prompts_of(samples, ACCOUNTS, "new").distinct(), family, ordinary, labeler), ""
        except InputError as error:
            return [], re.sub(r"\s+", " ", str(error))


def matched(index: TemplateIndex, encoded: Sequence[Encoded]) -> NDArray[np.int64]:
    """Extraction and benign signature that each prompt matches best, -1 if none, [2, n]."""
    found = [index.match(block) for block in encoded]
    return np.concatenate([np.empty((2, 0), np.int64), *(np.stack([m.index, m.benign]) for m in found)], axis=1)


# --- rivals -----------------------------------------------------------------------------------------------------------

PERMUTATIONS, GRAM = 128, 3
THRESHOLDS = np.round(np.arange(0.02, 0.96, 0.02), 2)
RIVAL_PEOPLE = 2_000
RIVAL_USES = 50
DRAIN_LINES = 3  # words that a line template must fix
TOLERATED = 1e-4  # part of people's prompts that a rival may match, as a mean over the other families


def sketches(texts: Sequence[str]) -> NDArray[np.uint64]:
    """MinHash of the word trigrams of each text, [n, PERMUTATIONS]."""
    from datasketch import MinHash

    found = []
    for text in texts:
        words = re.findall(r"\w+", normalise_text(text))
        grams = {" ".join(words[i : i + GRAM]).encode() for i in range(max(len(words) - GRAM + 1, 1))}
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch(sorted(grams))
        found.append(sketch.hashvalues)
    return np.stack(found).astype(np.uint64)


def nearest_sample(texts: NDArray[np.uint64], samples: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of each text to the sample most like it, [n]."""
    return np.max([(texts == sample).mean(axis=1) for sample in samples], axis=0)


class LineTemplates:
    """Drain3 run on the lines of samples: templates of lines that enough of the samples have."""

    def __init__(self, samples: Sequence[str]) -> None:
        from drain3 import TemplateMiner
        from drain3.template_miner_config import TemplateMinerConfig

        self.miner = TemplateMiner(config=TemplateMinerConfig())
        held: dict[int, set[int]] = {}
        for number, text in enumerate(samples):
            for line in _lines(text):
                held.setdefault(self.miner.add_log_message(line)["cluster_id"], set()).add(number)
        self.kept = {
            cluster.cluster_id
            for cluster in self.miner.drain.clusters
            if len(held.get(cluster.cluster_id, ())) >= 0.6 * len(samples)
            and sum(not token.startswith("<") for token in cluster.log_template_tokens) >= DRAIN_LINES
        }

    def share(self, text: str) -> float:
        """Part of the kept templates that the text has a line of."""
        found = (self.miner.match(line) for line in _lines(text))
        met = {cluster.cluster_id for cluster in found if cluster is not None} & self.kept
        return len(met) / len(self.kept) if self.kept else 0.0


def _lines(text: str) -> list[str]:
    lines = (normalise_text(line) for line in text.split("\n"))
    return [line for line in lines if line][:200]


@dataclass(frozen=True)
class Rival:
    """What a rival says of a draw: similarity of its later uses, and of people's prompts."""

    uses: NDArray[np.float64]
    people: NDArray[np.float64]


def rival_line(name: str, found: dict[str, Rival]) -> str:
    """Mean recall and false matches, each family's threshold the best of all others at TOLERATED."""
    recall = {f: (r.uses[:, None] >= THRESHOLDS).mean(axis=0) for f, r in found.items()}
    false = {f: (r.people[:, None] >= THRESHOLDS).mean(axis=0) for f, r in found.items()}
    met, wrong, thresholds = [], [], []
    for family in found:
        others = [other for other in found if other != family]
        fine = np.mean([false[other] for other in others], axis=0) <= TOLERATED
        means = np.where(fine, np.mean([recall[other] for other in others], axis=0), -1)
        best = int(means.argmax())
        met.append(recall[family][best])
        wrong.append(false[family][best])
        thresholds.append(THRESHOLDS[best])
    n = len(next(iter(found.values())).people)
    enough = sum(share >= TARGET for share in met)
    return (
        f"{name:24}{np.mean(met):8.1%}{enough:6} of {len(met)}   false matches: mean {np.mean(wrong):.4%} of {n:,} "
        f"prompts of people a family, families with any: {sum(w > 0 for w in wrong)}; "
        f"thresholds {min(thresholds)} to {max(thresholds)}"
    )


def run_rivals(corpus: Corpus) -> None:
    people = corpus.people[AGAINST:]
    sketched, few = sketches(people), people[:RIVAL_PEOPLE]
    minhash, drain = dict[str, Rival](), dict[str, Rival]()
    for name, rows in corpus.families.items():
        drawn = draw(rows, MAIN_SIZE, SEED)
        if drawn is None:
            continue
        samples = sketches(drawn.samples)
        minhash[name] = Rival(nearest_sample(sketches(drawn.uses), samples), nearest_sample(sketched, samples))
        lines = LineTemplates(drawn.samples)
        uses, ordinary = ([lines.share(t) for t in texts] for texts in (drawn.uses[:RIVAL_USES], few))
        drain[name] = Rival(np.array(uses), np.array(ordinary))
    print(f"\nrivals, {MAIN_SIZE} samples, same draws; best threshold of the other families")
    print(f"{'':24}{'found':>8}{'>= 98 %':>12}")
    print(rival_line("MinHash, word trigrams", minhash))
    print(rival_line("Drain3, lines", drain), flush=True)


# --- the table --------------------------------------------------------------------------------------------------------


def run(bench: Bench, families: dict[str, pd.DataFrame], tier: Tier, size: int, draws: int, with_against: bool) -> None:
    """Print the figures of one sample size, and the families that fall short."""
    outcomes = dict[str, list[Outcome]]()
    for name, rows in families.items():
        for seed in range(draws):
            drawn = draw(rows, size, SEED + seed)
            if drawn is not None:
                family = Family(name, None, None, tier)
                outcomes.setdefault(name, []).append(bench.measured(family, drawn, with_against))
    every = [one for found in outcomes.values() for one in found]
    n = len(bench.corpus.people) - (AGAINST if with_against else 0)
    found = {name: float(np.mean([one.found for one in ones])) for name, ones in outcomes.items()}
    known = {name: float(np.mean([one.known for one in ones])) for name, ones in outcomes.items()}
    false = {name: max(one.people for one in ones) for name, ones in outcomes.items()}
    total, agents = sum(one.people for one in every), sum(one.agents for one in every)
    by_new, by_any = np.mean([*found.values()]), np.mean([*known.values()])
    print(
        f"\n{size} samples, {'public' if tier is Tier.PUBLIC else 'benign'}"
        f"{', with --against' if with_against else ''}: {len(found)} families, {len(every)} draws\n"
        f"  later uses found by the new signatures {by_new:.2%}, by any {by_any:.2%};"
        f" families >= {TARGET:.0%}: {sum(v >= TARGET for v in found.values())} (by any: "
        f"{sum(v >= TARGET for v in known.values())}); refused draws {sum(not one.n_signatures for one in every)}\n"
        f"  people's prompts matched: {total} in {len(every)} draws of {n:,} each (95 % bound a draw "
        f"{upper_bound(total, n * len(every)):.5%}), {agents} of them in {' and '.join(AGENT_SETS)}; "
        f"families with any: {sum(v > 0 for v in false.values())}\n"
        f"  applications with over 1 % of their rows matched, of {bench.corpus.app_rows['part'].nunique()}: "
        f"{np.mean([one.apps_over for one in every]):.2f} a draw"
    )
    for name in sorted(found, key=found.__getitem__):
        ones = outcomes[name]
        if found[name] < TARGET or false[name] or max(one.apps_over for one in ones):
            refusal, apps = next((one.refusal for one in ones if one.refusal), ""), max(one.apps_over for one in ones)
            print(
                f"    {name:34} signatures {np.mean([one.n_signatures for one in ones]):4.1f}  found {found[name]:6.1%}"
                f"  any {known[name]:6.1%}  people {false[name]:3}  apps {apps:3}  {refusal[:150]}"
            )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=3, help="draws a family and size")
    parser.add_argument("--only", default="", help="families whose name contains this")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--without-rivals", action="store_true")
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.data)
    bench = Bench(corpus)
    families = {name: rows for name, rows in corpus.families.items() if arguments.only in name}
    for size in arguments.sizes:
        run(bench, families, Tier.PUBLIC, size, arguments.draws, with_against=False)
    run(bench, families, Tier.PUBLIC, MAIN_SIZE, arguments.draws, with_against=True)
    if not arguments.only:
        run(bench, corpus.apps, Tier.BENIGN, MAIN_SIZE, 1, with_against=False)
    if not arguments.without_rivals:
        run_rivals(corpus)


if __name__ == "__main__":
    sys.exit(main())
