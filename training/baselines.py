"""What anyone would try first, learnt from the same rows: the figures to be ahead of.

TF-IDF with logistic regression; the untuned sentence transformer with logistic regression; and its nearest exemplars,
as routers by example do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from training.prepare import LABELS, source_weights

TFIDF, MINILM, NEAREST = "TF-IDF + LR", "MiniLM + LR", "nearest exemplars"
C = 1.0
NEIGHBOURS = 10
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the sources, for the learning curve
CURVE, AS_SOURCED = "curve:", "as sourced"
MOST_CHARS = 2000

Floats = NDArray[np.float64]


def baseline_labels(
    learnt: pd.DataFrame,
    intents: NDArray[np.int64],
    tested: pd.DataFrame,
    learnt_embeddings: NDArray[np.float32],
    tested_embeddings: NDArray[np.float32],
) -> pd.DataFrame:
    """Columns `NAME:0` to `NAME:3` (probabilities of LABELS) and `NAME:intent` for every baseline, a row for each
    tested row."""
    said = _tfidf(learnt, intents, tested)
    known = (learnt["lesson"] != "").to_numpy()
    truth = learnt["lesson"][known].map(LABELS.index).to_numpy()
    asked = (tested["role"] == "prompt").to_numpy()
    told = _minilm(learnt[known], truth, learnt_embeddings[known], tested_embeddings)
    near = _nearest(learnt_embeddings[known], truth, tested_embeddings)
    return pd.DataFrame(said | _columns(MINILM, told, asked) | _columns(NEAREST, near, asked))


def learning_curve(
    learnt: pd.DataFrame,
    tested: pd.DataFrame,
    learnt_embeddings: NDArray[np.float32],
    tested_embeddings: NDArray[np.float32],
    seed: int,
) -> pd.DataFrame:
    """What MiniLM + LR names the tested rows (index into LABELS): a column `curve:SHARE` for each of SHARES of the
    sources, the smaller within the larger; and a column AS_SOURCED, of all sources, their strays not set right."""
    known = (learnt["lesson"] != "").to_numpy()
    order = np.random.default_rng(seed).permutation(np.unique(learnt["source"][known]))
    sourced = learnt["label"].where(learnt["label"] != "", learnt["lesson"])
    named = {AS_SOURCED: _minilm_names(learnt[known], sourced[known], learnt_embeddings[known], tested_embeddings)}
    for share in SHARES:
        chosen = known & learnt["source"].isin(set(order[: int(np.ceil(share * len(order)))])).to_numpy()
        some = learnt[chosen]
        named[f"{CURVE}{share}"] = _minilm_names(some, some["lesson"], learnt_embeddings[chosen], tested_embeddings)
    return pd.DataFrame(named, index=tested.index)


def _minilm_names(
    learnt: pd.DataFrame,
    lessons: pd.Series,
    learnt_embeddings: NDArray[np.float32],
    tested_embeddings: NDArray[np.float32],
) -> NDArray[np.int64]:
    truth = lessons.map(LABELS.index).to_numpy()
    p = _minilm(learnt, truth, learnt_embeddings, tested_embeddings)
    return np.asarray(np.unique(truth)[p.argmax(axis=1)])


def _minilm(
    learnt: pd.DataFrame,
    truth: NDArray[np.int64],
    learnt_embeddings: NDArray[np.float32],
    tested_embeddings: NDArray[np.float32],
) -> Floats:
    model = LogisticRegression(C=C, max_iter=200)
    model.fit(learnt_embeddings, truth, sample_weight=_label_weights(learnt))
    return np.asarray(model.predict_proba(tested_embeddings))


def _columns(name: str, p: Floats, asked: NDArray[np.bool_]) -> dict[str, Floats]:
    told = {f"{name}:{i}": np.where(asked, p[:, i], np.nan) for i in range(len(LABELS))}
    return told | {f"{name}:intent": np.full(len(p), np.nan)}


def _tfidf(learnt: pd.DataFrame, intents: NDArray[np.int64], tested: pd.DataFrame) -> dict[str, Floats]:
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=100_000)
    features = vectoriser.fit_transform(_texts(learnt))
    unseen = vectoriser.transform(_texts(tested))
    known, told = np.flatnonzero(learnt["lesson"] != ""), np.flatnonzero(intents >= 0)
    named = OneVsRestClassifier(LogisticRegression(C=C, solver="liblinear", class_weight="balanced"))
    named.fit(features[known], learnt["lesson"].iloc[known].map(LABELS.index).to_numpy())
    meant = LogisticRegression(C=C, solver="liblinear", class_weight="balanced").fit(features[told], intents[told])
    p = named.predict_proba(unseen)
    said = {f"{TFIDF}:{i}": p[:, i] for i in range(len(LABELS))}
    return said | {f"{TFIDF}:intent": meant.predict_proba(unseen)[:, 1]}


def _nearest(learnt: NDArray[np.float32], truth: NDArray[np.int64], tested: NDArray[np.float32]) -> Floats:
    """Share of each label among the NEIGHBOURS most similar texts."""
    shares = []
    for start in range(0, len(tested), 1024):
        similar = np.argpartition(-(tested[start : start + 1024] @ learnt.T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        shares.append(np.stack([(truth[similar] == i).mean(axis=1) for i in range(len(LABELS))], axis=1))
    return np.concatenate(shares)


def _label_weights(rows: pd.DataFrame) -> Floats:
    """Labels count the same, and sources within them."""
    weights = np.zeros(len(rows))
    for label in LABELS:
        chosen = (rows["lesson"] == label).to_numpy()
        weights[chosen] = source_weights(rows["part"][chosen]) / max(chosen.sum(), 1)
    return np.asarray(weights * len(rows) / weights.sum())


def _texts(rows: pd.DataFrame) -> Sequence[str]:
    return list(rows["text"].str.slice(0, MOST_CHARS))
