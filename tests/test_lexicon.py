"""The lexicon against counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.encoder import TokenBatch
from classifier.errors import BundleError
from classifier.lexicon import (
    LOOKED_UP_HEAD,
    LOOKED_UP_TAIL,
    Lexicon,
    count_features,
    feature_count,
    head_and_tail,
    save_lexicon,
)

VOCAB = 5
SIZE = feature_count(VOCAB)
texts = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=12), min_size=1, max_size=5)


def tokens(rows: list[list[int]]) -> TokenBatch:
    ids = np.array([token for row in rows for token in row], np.int32)
    return TokenBatch(ids, np.cumsum([0, *map(len, rows)]))


def lexicon() -> Lexicon:
    rng = np.random.default_rng(0)
    idf = rng.uniform(1, 5, SIZE).astype(np.float32)
    idf[-1] = 0
    return Lexicon(rng.normal(size=(SIZE, 2)).astype(np.float32), idf, VOCAB)


def test_counts_by_hand() -> None:
    counts = count_features(tokens([[1, 1, 2], [], [2]]), VOCAB)
    first = dict(zip(counts[0].indices.tolist(), counts[0].data.tolist(), strict=True))
    assert first[1] == 2
    assert first[2] == 1
    pairs = [column for column in first if VOCAB <= column < SIZE - 1]
    assert len(pairs) == 2  # (1, 1) and (1, 2)
    assert SIZE - 1 in first  # the last token has no right neighbour
    assert counts[1].nnz == 0
    assert sorted(counts[2].indices.tolist()) == [2, SIZE - 1]


@given(texts)
def test_a_text_is_scored_as_if_it_came_alone(rows: list[list[int]]) -> None:
    model = lexicon()
    assert model.scores(tokens(rows)).tolist() == [model.scores(tokens([row]))[0].tolist() for row in rows]


def test_one_token_scores_its_weights() -> None:
    weights, idf = np.zeros((SIZE, 2), np.float32), np.ones(SIZE, np.float32)
    weights[3], idf[-1] = (0.7, -0.2), 0
    expected = np.array([[0.7, -0.2], [0, 0], [0, 0]])
    assert Lexicon(weights, idf, VOCAB).scores(tokens([[3], [4], []])) == pytest.approx(expected)


def test_saved_and_loaded(tmp_path: Path) -> None:
    weights, idf = np.zeros((SIZE, 1)), np.ones(SIZE)
    weights[2] = 0.5
    save_lexicon(weights, idf, tmp_path / "lexicon.safetensors")
    loaded = Lexicon.load(tmp_path / "lexicon.safetensors", VOCAB)
    assert loaded.scores(tokens([[2]])) == pytest.approx(np.array([[0.5 / np.sqrt(2)]]))


def test_of_a_long_text_the_ends_are_looked_up() -> None:
    long = [1] * LOOKED_UP_HEAD + [2] * 50 + [3] * LOOKED_UP_TAIL
    kept, last = head_and_tail(tokens([[4], long, []]))
    assert [kept.of(i).tolist() for i in range(3)] == [[4], [1] * LOOKED_UP_HEAD + [3] * LOOKED_UP_TAIL, []]
    assert sorted(last.tolist()) == [0, LOOKED_UP_HEAD, LOOKED_UP_HEAD + LOOKED_UP_TAIL]
    counts = count_features(tokens([[4], long, []]), VOCAB)
    assert counts[1].sum() == 2 * (LOOKED_UP_HEAD + LOOKED_UP_TAIL)
    assert counts[1, SIZE - 1] == 2  # neither end of the head nor of the tail is paired
    model = lexicon()
    together, alone = model.scores(tokens([[4], long, [2]])), model.scores(tokens([long]))
    assert together[1].tolist() == alone[0].tolist()


@pytest.mark.training
@given(texts)
def test_scores_are_what_training_sees(rows: list[list[int]]) -> None:
    from training.heads import weighed_rows

    rng = np.random.default_rng(1)
    weights, idf = rng.normal(size=(SIZE, 3)), rng.uniform(0.5, 4, SIZE)
    weights[-1], idf[-1] = 0, 0
    seen = weighed_rows(count_features(tokens(rows), VOCAB), idf) @ weights
    scores = Lexicon(weights.astype(np.float32), idf.astype(np.float32), VOCAB).scores(tokens(rows))
    assert scores == pytest.approx(seen, abs=1e-4)


def test_the_lexicon_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    save_lexicon(np.zeros((SIZE, 2)), np.zeros(SIZE), tmp_path / "lexicon.safetensors")
    with pytest.raises(BundleError, match=f"has {SIZE:,} features, expected {SIZE + 1:,} for {VOCAB + 1} tokens"):
        Lexicon.load(tmp_path / "lexicon.safetensors", VOCAB + 1)
