"""At which rank a campaign stands that no signature knows, among wordings that accounts share for honest reasons.

    python -m tests.benchmarks.discovery --data DIR [--families N] [--campaign-days N]

Traffic of 1,000 accounts over 28 days: people's conversations; prompts that many pass on; applications, six of which
have no signature here and are used by up to 60 accounts each; and 40 accounts of whose prompts 30 % are a family's. Its
signatures are left out, and all others that match its prompts. The classifier was trained on the family, so its intent
is better than on a new one: for the row "intent of a stranger" a logistic regression on the bundle's embeddings gives
the intent, fitted here without the family, its kin, the six applications and the honest prompts that are sent. One
family after the other, in the same honest traffic.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from classifier.bundle import default_bundle_dir, open_bundle, write_manifest
from classifier.discovery import LEAST_ACCOUNTS, Facets, facets_of, ranked
from classifier.labeler import Labeler
from classifier.pipeline import Pipeline
from classifier.templates import TemplateIndex
from classifier.text import normalise_text
from service.batch import label
from service.discovery import Discovery
from service.finished import read_finished
from service.template_checks import best_matches

ACCOUNTS, CAMPAIGN_ACCOUNTS, SHARE, DAYS, SEED = 1_000, 40, 0.3, 28, 0
KNOWN_APP_ACCOUNTS, APP_PROMPTS = 100, 3
UNKNOWN_APP_ACCOUNTS = (20, 30, 40, 40, 50, 60)
UNKNOWN_APP_KINDS = ("rag", "support", "coding_agent", "judge", "agent_framework", "summarize")
PASSED_ON, PASS_ON = 20, 0.4  # prompts that go round, and part of the accounts that send one
LEAST_ROWS = 150  # of a family, so that its accounts need not send the same prompts
SKELETON_ACCOUNTS, SKELETON_ALIKE = 5, 0.8
KIN_ROWS, KIN_SHARE = 200, 0.05  # of a family's prompts another signature matches: then it is no stranger
START = 1_788_220_800  # September 2026

VARIANTS: dict[str, Callable[[Facets], float]] = {
    "accounts": lambda f: f.n_accounts,
    "users": lambda f: f.users,
    "users x size": lambda f: f.users * f.size,
    "users x size x diversity": lambda f: f.users * f.size * f.diversity,
    "users x size x diversity x growth": lambda f: f.strength / max(f.intent, 0.01),
    "users x intent": lambda f: f.users * f.intent,
    "accounts x intent x size": lambda f: f.n_accounts * f.intent * f.size,
    "users x intent x size": lambda f: f.users * f.intent * f.size,
    "users x intent x size x diversity": lambda f: f.users * f.intent * f.size * f.diversity,
    "users x intent^2 x size x diversity": lambda f: f.users * f.intent**2 * f.size * f.diversity,
    "all: with growth (shipped)": lambda f: f.strength,
}
BASELINE, STRANGER = "skeletons by accounts (LPDetective)", "shipped, intent of a stranger"
MOST_LEARNT = 25  # prompts of a family, an application or a data set that the stranger's intent is fitted to


def ordinary_traffic(data: Path, unknown: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Honest prompts: account, prompt, what."""
    rows = pd.read_parquet(data / "prompts.parquet", columns=["text", "group", "kind", "conversation", "dataset"])
    people = rows[(rows["group"] == "organic") & (rows["kind"] == "human")].reset_index(drop=True)
    passed = people["text"][people["dataset"] == "awesome_chatgpt_prompts"]
    talks = people["conversation"].where(people["conversation"].notna() & (people["conversation"] != ""), None)
    talks = talks.fillna(pd.Series([f"single-{i}" for i in range(len(people))]))
    names = sorted(set(talks))
    owner = dict(zip(names, rng.integers(ACCOUNTS, size=len(names)), strict=True))
    parts = [pd.DataFrame({"account": talks.map(owner), "prompt": people["text"], "what": "people"})]
    senders = np.flatnonzero(rng.random(ACCOUNTS) < PASS_ON)
    going_round = passed.sample(PASSED_ON, random_state=SEED).to_numpy()
    parts.append(pd.DataFrame({"account": senders, "prompt": rng.choice(going_round, len(senders)), "what": "passed"}))
    parts += _applications(data, unknown, rng)
    return pd.concat(parts, ignore_index=True)


def _applications(data: Path, unknown: list[str], rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    apps = pd.read_parquet(data / "benign_apps.parquet", columns=["text", "app"])
    known = sorted(set(apps["app"]) - set(unknown))
    users = rng.choice(ACCOUNTS, KNOWN_APP_ACCOUNTS, replace=False)
    used = [(str(rng.choice(known)), [account]) for account in users]
    used += [
        (app, rng.choice(ACCOUNTS, n, replace=False)) for app, n in zip(unknown, UNKNOWN_APP_ACCOUNTS, strict=True)
    ]
    for app, accounts in used:
        texts = apps["text"][apps["app"] == app].drop_duplicates().to_numpy()
        dealt = np.concatenate([rng.permutation(texts) for _ in range(-(-APP_PROMPTS * len(accounts) // len(texts)))])
        senders = np.repeat(accounts, APP_PROMPTS)
        yield pd.DataFrame({"account": senders, "prompt": dealt[: len(senders)], "what": "app"})


def unknown_applications(data: Path) -> list[str]:
    """The first application of each of the kinds that has plenty of rows, none of them ambiguous."""
    apps = pd.read_parquet(data / "benign_apps.parquet", columns=["app", "kind", "ambiguous"])
    sizes = apps.groupby("app").agg(kind=("kind", "first"), n=("kind", "size"), ambiguous=("ambiguous", "any"))
    plenty = sizes[(sizes["n"] >= 140) & ~sizes["ambiguous"]]
    return [str(plenty.index[plenty["kind"] == kind][0]) for kind in UNKNOWN_APP_KINDS]


def with_campaign(
    ordinary: pd.DataFrame, texts: np.ndarray, campaign_days: float, rng: np.random.Generator
) -> pd.DataFrame:
    accounts = rng.choice(ACCOUNTS, CAMPAIGN_ACCOUNTS, replace=False)
    sent = ordinary["account"].value_counts().reindex(accounts, fill_value=0).to_numpy()
    n = np.maximum(np.rint(sent * SHARE / (1 - SHARE)), 1).astype(int)
    prompts = np.resize(rng.permutation(texts), n.sum())
    campaign = pd.DataFrame({"account": np.repeat(accounts, n), "prompt": prompts, "what": "campaign"})
    rows = pd.concat([ordinary, campaign], ignore_index=True)
    days = np.where(rows["what"] == "campaign", campaign_days, DAYS)
    rows["timestamp"] = START + ((DAYS - days * rng.random(len(rows))) * 86_400).astype(int)
    rows["event_id"] = [f"{what}-{i}" for i, what in enumerate(rows["what"])]
    rows["account_id"] = [f"account-{number}" for number in rows["account"]]
    return rows.sort_values("timestamp")


def with_kin(family: str, texts: np.ndarray, left_out: set[str], labeler: Labeler) -> set[str]:
    """What must be left out so that the family is unknown: it, and whoever's signature matches its prompts as well."""
    index, normalised = labeler.templates, [normalise_text(text) for text in texts[:KIN_ROWS]]
    names = {family} | left_out
    while True:
        left = [signature for signature in index.signatures if signature.facts.family not in names]
        index = TemplateIndex.build(left, index.shingler, labeler.encoder.dimensions)
        best = best_matches(index, normalised, labeler.encoder)
        found = pd.Series([left[i].facts.family for i in best[best >= 0].tolist()], dtype=object).value_counts()
        kin = set(found.index[found >= KIN_SHARE * len(normalised)])
        if not kin:
            return names
        names |= kin


def bundle_without(folder: Path, names: set[str], whole: Labeler) -> Pipeline:
    """The default bundle, whose labeler is given, less the signatures of some families and applications."""
    shutil.copytree(default_bundle_dir(), folder)
    index = whole.templates
    left = [signature for signature in index.signatures if signature.facts.family not in names]
    TemplateIndex.build(left, index.shingler, whole.encoder.dimensions).save(folder)
    write_manifest(folder, open_bundle(default_bundle_dir()).manifest.facts)
    return Pipeline.load(folder)


class Stranger:
    """Intent as it would be of a family that nobody knew."""

    def __init__(self, data: Path, sent: set[str], labeler: Labeler) -> None:
        self._labeler = labeler
        prompts = pd.read_parquet(data / "prompts.parquet", columns=["text", "dataset"]).rename(
            columns={"dataset": "part"}
        )
        apps = pd.read_parquet(data / "benign_apps.parquet", columns=["text", "app", "ambiguous"])
        apps = apps[~apps["ambiguous"]].rename(columns={"app": "part"})
        families = pd.read_parquet(data / "extraction_traffic.parquet", columns=["text", "family", "has_template"])
        families = families[families["has_template"]].rename(columns={"family": "part"}).assign(extracts=True)
        rows = pd.concat([prompts[~prompts["text"].isin(sent)], apps, families], ignore_index=True)
        rows["extracts"] = rows["extracts"].fillna(False).astype(bool)
        self._rows = rows.sample(frac=1, random_state=SEED).groupby("part").head(MOST_LEARNT).reset_index(drop=True)
        self._embedded = self._embed(self._rows["text"].tolist())

    def _embed(self, texts: list[str]) -> np.ndarray:
        views = [
            self._labeler.encoder.encode([normalise_text(text) for text in texts[start : start + 512]]).views
            for start in range(0, len(texts), 512)
        ]
        joined = np.concatenate(views)
        return joined.reshape(len(joined), -1) * np.sqrt(joined.shape[2])

    def intent(self, names: set[str], texts: list[str]) -> np.ndarray:
        """Of texts, learnt without some families and applications; as many of either kind weigh the same."""
        from sklearn.linear_model import LogisticRegression

        learnt = ~self._rows["part"].isin(names).to_numpy()
        model = LogisticRegression(C=0.01, max_iter=100, class_weight="balanced")
        model.fit(self._embedded[learnt], self._rows["extracts"][learnt])
        return model.predict_proba(self._embed(texts))[:, 1].astype(np.float32)


def with_intent(discovery: Discovery, rows: pd.DataFrame, names: set[str], stranger: Stranger) -> list[Facets]:
    """Facets of the findings, their intent a stranger's."""
    prompts = dict(zip(rows["event_id"], rows["prompt"], strict=True))
    looked_at = [prompts[event_id] for event_id in discovery.event_ids(np.arange(len(discovery.context.unit)))]
    context = replace(discovery.context, p_extraction=stranger.intent(names, looked_at))
    return [facets_of(wording, context) for wording in discovery.wordings]


def rank_by(discovery: Discovery, facets: list[Facets], strength: Callable[[Facets], float]) -> list[str]:
    """What most prompts of each finding are, best first."""
    order = ranked(discovery.wordings, [strength(one) for one in facets])
    return [_mostly(discovery.event_ids(discovery.wordings[number].prompts)) for number in order]


def _mostly(event_ids: list[str]) -> str:
    return str(pd.Series([event_id.split("-")[0] for event_id in event_ids]).mode()[0])


def skeleton_clusters(rows: pd.DataFrame) -> list[str]:
    """The baseline, without labels: prompts reduced to words that several accounts use, clustered where these are
    alike (Jaccard), ranked by accounts. What most prompts of each cluster are, best first."""
    words = [sorted(set(normalise_text(text).split())) for text in rows["prompt"]]
    pairs = pd.DataFrame(
        {"word": [w for ws in words for w in ws], "row": np.repeat(range(len(words)), list(map(len, words)))}
    )
    pairs["account"] = rows["account"].to_numpy()[pairs["row"]]
    used = pairs.groupby("word")["account"].nunique()
    pairs = pairs[pairs["word"].map(used) >= SKELETON_ACCOUNTS]
    code, _ = pd.factorize(pairs["word"])
    held = csr_matrix((np.ones(len(pairs), np.float32), (pairs["row"], code)), (len(words), code.max() + 1))
    sizes = np.asarray(held.sum(axis=1)).ravel()
    links = []
    for start in range(0, len(words), 512):
        common = (held[start : start + 512] @ held.T).toarray()
        union = sizes[start : start + 512, None] + sizes - common
        alike = np.argwhere(common >= SKELETON_ALIKE * np.maximum(union, 1))
        links.append(alike + np.array([start, 0]))
    i, j = np.concatenate(links).T
    cluster = connected_components(csr_matrix((np.ones(len(i)), (i, j)), (len(words), len(words))))[1]
    groups = rows.assign(cluster=cluster).groupby("cluster")
    told = groups.agg(accounts=("account", "nunique"), what=("what", lambda s: s.mode()[0]))
    told = told[told["accounts"] >= LEAST_ACCOUNTS].sort_values("accounts", ascending=False, kind="stable")
    return told["what"].tolist()


def rank_of(kinds: list[str]) -> float:
    """1 is the first; infinite where the campaign is not found."""
    return kinds.index("campaign") + 1 if "campaign" in kinds else np.inf


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", type=int, default=12, help="how many, spread over the kinds; 0 for all")
    parser.add_argument("--campaign-days", type=float, default=DAYS, help=f"the campaign's last days of the {DAYS}")
    given = parser.parse_args()
    families = pd.read_parquet(
        given.data / "extraction_traffic.parquet", columns=["text", "family", "capability", "has_template"]
    )
    families = families[families["has_template"]].drop_duplicates(["family", "text"])
    sizes = families.groupby("family").agg(capability=("capability", "first"), n=("text", "size"))
    sizes = sizes[sizes["n"] >= LEAST_ROWS].sort_index()
    spread = sizes.assign(turn=sizes.groupby("capability").cumcount()).sort_values(["turn", "capability"])
    chosen = spread.index[: given.families if given.families else None]
    unknown = unknown_applications(given.data)
    ordinary = ordinary_traffic(given.data, unknown, np.random.default_rng(SEED))
    print(
        f"{len(ordinary):,} honest prompts of {ordinary['account'].nunique():,} accounts; unknown: {', '.join(unknown)}"
    )
    whole = Pipeline.load(default_bundle_dir()).labeler
    stranger = Stranger(given.data, set(ordinary["prompt"]), whole)
    ranks = pd.DataFrame(index=chosen, columns=[BASELINE, *VARIANTS, STRANGER], dtype=float)
    for family in chosen:
        begun = time.monotonic()
        texts = families["text"][families["family"] == family].to_numpy()
        rows = with_campaign(ordinary, texts, given.campaign_days, np.random.default_rng(SEED + 1))
        names = with_kin(str(family), texts, set(unknown), whole)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            rows[["event_id", "account_id", "timestamp", "prompt"]].to_json(
                folder / "traffic.jsonl", orient="records", lines=True
            )
            pipeline = bundle_without(folder / "bundle", names, whole)
            label([str(folder / "traffic.jsonl")], folder / "run", pipeline=pipeline, workers=1)
            labelled = time.monotonic()
            discovery = Discovery(read_finished(folder / "run"), pipeline, [])
        found = time.monotonic()
        kinds = {name: rank_by(discovery, discovery.facets, strength) for name, strength in VARIANTS.items()}
        strange = with_intent(discovery, rows, names, stranger)
        kinds[STRANGER] = rank_by(discovery, strange, lambda f: f.strength)
        ranks.loc[family] = [rank_of(skeleton_clusters(rows)), *(rank_of(found) for found in kinds.values())]
        shipped = kinds["all: with growth (shipped)"]
        first = " ".join(shipped[:5])
        variants = " ".join(f"{rank:.0f}" for rank in ranks.loc[family])
        print(
            f"{family:32}{sizes['capability'][family]:24}rank {rank_of(shipped):3.0f} of {len(shipped)}, "
            f"by rows of the table below {variants}; first: {first} "
            f"(left out with it: {', '.join(sorted(names - {family, *unknown})) or 'none'}; "
            f"{found - labelled:.1f} s after {labelled - begun:.1f})",
            flush=True,
        )
    print(f"\n{'ranked by':42}{'in first 1':>12}{'in first 3':>12}{'in first 10':>12}{'median':>8}{'worst':>8}")
    for name in ranks.columns:
        column = ranks[name]
        within = "".join(f"{f'{(column <= k).sum()} of {len(column)}':>12}" for k in (1, 3, 10))
        print(f"{name:42}{within}{column.median():8.0f}{column.max():8.0f}")


if __name__ == "__main__":
    main()
