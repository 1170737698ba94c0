"""First stage of training: the three public data files -> one table of rows to learn from, with folds.

    prompts.parquet, extraction_traffic.parquet, benign_apps.parquet, data/written/ -> rows

Here every trap that the data's README names is taken care of once: exact and near duplicates, sources that are one
template thousands of times, lengths that tell files apart, payloads shared by many families, stray and missing labels
(see `written`), and folds that leave whole sources out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifier.errors import InputError
from classifier.reveal import reveal_all
from classifier.text import normalise_text
from classifier.types import CAPABILITIES, OTHER
from training.lineage import lineages
from training.written import digest, readings, written_prompts

FOLDS = 8
MOST_PER_SOURCE = 1200  # a source is one voice however many rows it has; above this, rows add time and no voices
MOST_PER_VARIANT = 400  # a variant is close to one template
MOST_PER_FAMILY = 500
MOST_PER_APP = 40
LENGTHS = (80, 6000)  # every text is cut to a log-uniform length, so that length cannot tell the files apart
LINEAGE_CHARS = 3000  # copies agree from the start

LABELS = (*CAPABILITIES, OTHER)
SELF_INSTRUCT = (  # one lineage in five repositories: leaving out one of them only would leave its wording in
    "alpaca_selfinstruct",
    "codealpaca_selfinstruct",
    "self_instruct_bootstrap",
    "self_instruct_instances",
    "belle_zh_selfinstruct",
)

EVERY_BUILD = -1  # fold of what was written for training: never left out, but for near-duplicates of what is
_COLUMNS = (
    *("text", "role", "label", "source", "part", "organic", "has_template", "kind", "lang"),
    *("gold", "gold_sure", "train_only", "conversation", "learn", "measure"),
)
_DEFAULTS = {
    **{"organic": False, "train_only": False, "has_template": False, "learn": True, "measure": True},
    **{"gold": "", "gold_sure": np.nan, "conversation": ""},
}
PROMPT, EXTRACTION, BENIGN = "prompt", "extraction", "benign"


def prepare(data: Path, seed: int) -> pd.DataFrame:
    """One row a text. Columns: `text` (what it means, cut to a random length), `whole`, `role` (prompt, extraction,
    benign), `label` (of the source, one of LABELS, "" where unknown: what is measured), `lesson` (what is learnt:
    the label of a reader where there is one, else `label`), `source` (what is left out together), `part` (dataset,
    family or application), `fold` (EVERY_BUILD for what was written for training), `lineage` (the same for near-
    duplicates), `learn` (False for rows above the caps that no reader read: honest text for signatures, nothing to
    learn labels from), `measure` (False above the caps, read or not: which rows are judged must not hang on which
    were read), `train_only`, `organic`, `has_template`, `kind`, `lang`, `gold`, `gold_sure`, `conversation`.
    """
    rng = np.random.default_rng(seed)
    rows = pd.concat([_prompts(data, rng), _extraction(data, rng), _benign(data, rng), _written()], ignore_index=True)
    rows["digest"] = [digest(text) for text in rows["text"]]
    rows["whole"] = [revealed.text for revealed in reveal_all(rows["text"].tolist())]
    rows["text"] = cut_lengths(rows["whole"].tolist(), rng)
    rows = rows[~rows.duplicated(["part", "digest"])].reset_index(drop=True)
    rows["lesson"] = _lessons(rows)
    rows["fold"] = EVERY_BUILD
    measured = ~rows["train_only"].to_numpy(bool)
    rows.loc[measured, "fold"] = assign_folds(rows[measured])
    rows["lineage"] = lineages(rows["whole"].str.slice(0, LINEAGE_CHARS).tolist())
    return rows.drop(columns="digest")


def _lessons(rows: pd.DataFrame) -> pd.Series:
    """The label to learn: of the prompt's own reader where one was sure, else of its source."""
    lessons = rows["label"].where(rows["role"] == PROMPT, "")
    read = rows["digest"].map(readings())
    lessons = lessons.where(read.isna() | (rows["role"] != PROMPT), read)
    golden = rows["gold"].isin(LABELS) & (rows["gold_sure"] == 1)
    return lessons.where(~golden, rows["gold"])


def _written() -> pd.DataFrame:
    """What was written for training."""
    rows = written_prompts()
    return _columns(rows.assign(source="written/" + rows["part"], role=PROMPT, kind="synthetic", train_only=True))


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(
            f"training data: {path} is not there; give the folder that holds the three data files with --data"
        )
    return pd.read_parquet(path)


def _prompts(data: Path, rng: np.random.Generator) -> pd.DataFrame:
    rows = _read(data / "prompts.parquet")
    rows = rows.assign(
        role=PROMPT,
        part=rows["dataset"],
        label=rows["label"].where(rows["label"].isin(LABELS), ""),
        organic=(rows["group"] == "organic") & (rows["kind"] == "human"),
        train_only=rows["dataset"].str.startswith("authored"),
        gold=rows["gold"].where(rows["gold"].notna(), ""),
        conversation=rows["conversation"].fillna(""),
        variant=rows["variant"].fillna(""),
    )
    few = _within(rows, ["dataset", "variant"], MOST_PER_VARIANT, rng) & _within(
        rows, ["source", "label"], MOST_PER_SOURCE, rng
    )
    few |= rows["gold"] != ""
    read = rows["text"].map(digest).isin(readings().keys())  # what a reader labelled is worth more than the caps save
    return _columns(rows.assign(learn=few | read, measure=few))


def _extraction(data: Path, rng: np.random.Generator) -> pd.DataFrame:
    rows = _read(data / "extraction_traffic.parquet")
    rows = rows.assign(
        role=EXTRACTION,
        part=rows["family"],
        source=rows["source"].where(~rows["family"].isin(SELF_INSTRUCT), "self-instruct"),
        label=rows["capability"].where(rows["capability"].isin(CAPABILITIES), ""),
        kind="synthetic",
        learn=_within(rows, ["family"], MOST_PER_FAMILY, rng),
    )
    return _columns(rows)


def _benign(data: Path, rng: np.random.Generator) -> pd.DataFrame:
    rows = _read(data / "benign_apps.parquet")
    rows = rows[~rows["ambiguous"]].reset_index(drop=True)
    rows = rows.assign(role=BENIGN, part=rows["app"], label="", learn=_within(rows, ["app"], MOST_PER_APP, rng))
    return _columns(rows)


def _columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the table, those that a file has nothing to say of by default."""
    missing = {name: value for name, value in _DEFAULTS.items() if name not in rows}
    return rows.assign(**missing)[list(_COLUMNS)]


def _within(rows: pd.DataFrame, by: list[str], most: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows are among the first `most` of their group, in random order."""
    order = rng.permutation(len(rows))
    ranks = np.empty(len(rows), np.int64)
    ranks[order] = rows.iloc[order].groupby(by).cumcount().to_numpy()
    return ranks < most


def cut_lengths(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Half of the texts cut to a log-uniform length between LENGTHS, keeping head and tail as the data files do."""
    draws = rng.random((len(texts), 2))  # by row: rows that come after change nothing
    limits = LENGTHS[0] * (LENGTHS[1] / LENGTHS[0]) ** draws[:, 0]
    limits = np.where(draws[:, 1] < 0.5, LENGTHS[1], limits)  # most traffic is short, and templates have ends
    return [_cut(text, int(limit)) for text, limit in zip(texts, limits, strict=True)]


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return text[:head] + "\n" + text[len(text) - (limit - head) :]


def assign_folds(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Fold of each row: whole sources together, sources of a label dealt out by size so that every fold tests every
    label."""
    folds: dict[tuple[str, str], int] = {}
    for role, part in rows.groupby("role", sort=True):
        sizes = part.groupby(["source"]).agg(label=("label", "first"), n=("source", "size")).reset_index()
        for _, group in sizes.groupby("label", sort=True):
            ordered = group.sort_values(["n", "source"], ascending=[False, True])["source"]
            folds.update(_deal(((str(role), str(source)) for source in ordered), FOLDS))
    return np.array([folds[key] for key in zip(rows["role"], rows["source"], strict=True)])


def _deal(keys: Iterable[tuple[str, str]], hands: int) -> dict[tuple[str, str], int]:
    """Deal keys back and forth (0..7, 7..0, ...), so that no fold gets all the large ones."""
    order = [*range(hands), *reversed(range(hands))]
    return {key: order[i % len(order)] for i, key in enumerate(keys)}


def source_weights(sources: pd.Series) -> NDArray[np.float64]:
    """Weights with which every source counts the same, mean one."""
    weights = 1 / sources.map(sources.value_counts()).to_numpy(float)
    return np.asarray(weights * len(weights) / weights.sum())


def payload_buckets(rows: pd.DataFrame, buckets: int) -> NDArray[np.int64]:
    """A number below `buckets` for every row, the same (nearly always) for rows with one payload, whatever family
    wraps it: least hash among the word 4-grams that are rare within the row's part.
    """
    result = np.zeros(len(rows), np.int64)
    for _, part in rows.groupby("part", sort=True):
        grams = [_grams(text) for text in part["whole"]]
        counts = Counter(gram for row in grams for gram in row)
        most = max(1, len(part) // 50)
        for index, row in zip(part.index, grams, strict=True):
            result[index] = min((gram for gram in row if counts[gram] <= most), default=min(row, default=0)) % buckets
    return result


def _grams(text: str) -> set[int]:
    words = normalise_text(text).split()
    return {int(digest(" ".join(words[i : i + 4])), 16) for i in range(max(len(words) - 3, 1))}
