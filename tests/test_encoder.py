"""Token ids, windows and embeddings, against plain loops and against Hugging Face tokenizers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer

import classifier.encoder
from classifier.bundle import default_bundle_dir
from classifier.encoder import (
    HEAD_TOKENS,
    TAIL_TOKENS,
    VIEWS,
    WINDOW_TOKENS,
    StaticEncoder,
    TokenBatch,
    Tokenizer,
    l2_normalise,
    quantise,
    save_table,
    window_offsets,
)
from classifier.errors import BundleError
from classifier.text import normalise_text
from tests import models

batches = st.lists(st.text(max_size=40).map(normalise_text), min_size=1, max_size=6)


@given(batches)
def test_ids_are_those_of_hugging_face_tokenizers(texts: list[str]) -> None:
    reference = HuggingFaceTokenizer.from_file(str(models.tokenizer_path()))
    expected = [reference.encode(text).ids for text in texts]
    for times in (1, 100):  # few texts are cut one by one, many at once
        tokens = models.tokenizer().encode(texts * times)
        assert [tokens.of(i).tolist() for i in range(len(tokens))] == expected * times


def test_without_gigatoken_hugging_face_tokenizers_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    path = default_bundle_dir() / "tokenizer.json"
    fast = Tokenizer(path)
    monkeypatch.setattr(classifier.encoder, "HAS_GIGATOKEN", False)
    slow = Tokenizer(path)
    assert (fast.run_by, slow.run_by) == ("gigatoken", "tokenizers")
    assert slow.vocabulary() == fast.vocabulary()
    texts = [normalise_text(text) for text in ("Write a PARSER, for 3 files…", "", "编写 代码 😀 naïve", "x" * 999)]
    for batch in (texts, [text.encode() for text in texts], texts[:1], []):
        one, other = fast.encode(batch), slow.encode(batch)
        assert one.ids.tolist() == other.ids.tolist()
        assert one.offsets.tolist() == other.offsets.tolist()
        assert one.ids.dtype == other.ids.dtype
        assert one.offsets.dtype == other.offsets.dtype
    assert slow.decode(slow.encode(texts).ids) == "".join(texts)


def test_threads_may_encode_at_once() -> None:
    """Many texts, which gigatoken lets other threads run for, beside a few."""
    tokenizer = Tokenizer(default_bundle_dir() / "tokenizer.json")
    many = [f"write a parser for the {i}th format, and mind the quoted commas in it. " * 20 for i in range(300)]
    sent = [many, many[:1]] * 40
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tokenizer.encode, sent))
    expected = [tokenizer.encode(texts).ids.tolist() for texts in sent[:2]]
    assert [one.ids.tolist() for one in found] == expected * 40


@given(batches)
def test_decoding_gives_the_text_back(texts: list[str]) -> None:
    tokens = models.tokenizer().encode(texts)
    assert [models.tokenizer().decode(tokens.of(i)) for i in range(len(tokens))] == texts


@given(batches)
def test_a_text_is_encoded_as_if_it_came_alone(texts: list[str]) -> None:
    encoder = models.encoder()
    together = encoder.encode(texts)
    alone = [encoder.encode([text]) for text in texts]
    assert np.array_equal(together.views, np.concatenate([one.views for one in alone]))
    assert np.array_equal(together.windows, np.concatenate([one.windows for one in alone]))


def test_cuts_of_views_and_windows_agree_alone_and_together() -> None:
    encoder = models.encoder()
    words = ["plan", "the", "trip", "and", "write", "a", "parser", "for", "its", "log"]
    texts = [" ".join(words[i % len(words)] for i in range(n)) for n in (0, 1, 23, 24, 25, 48, 72, 127, 128, 129, 600)]
    together = encoder.encode(texts)
    alone = [encoder.encode([text]) for text in texts]
    assert np.array_equal(together.views, np.concatenate([one.views for one in alone]))
    assert np.array_equal(together.windows, np.concatenate([one.windows for one in alone]))
    assert encoder.encode([]).views.shape == (0, len(VIEWS), encoder.dimensions)


def test_an_embedding_is_the_unit_sum_of_its_rows() -> None:
    encoder, rows = models.encoder(), models.table()
    encoded = encoder.encode(["write a parser", "", "plan"])
    ids = encoded.tokens.of(0)
    expected = rows[ids].sum(axis=0)
    assert encoded.embeddings[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert not encoded.embeddings[1].any()
    assert np.linalg.norm(encoded.embeddings[2]) == pytest.approx(1, abs=1e-6)


def test_views_are_the_whole_its_first_window_its_head_and_its_tail() -> None:
    encoder, rows = models.encoder(), models.table()
    encoded = encoder.encode(["plan the trip " * 100, "plan"])
    ids = encoded.tokens.of(0)
    assert len(ids) > WINDOW_TOKENS + TAIL_TOKENS
    for view, part in enumerate((ids, ids[:WINDOW_TOKENS], ids[:HEAD_TOKENS], ids[-TAIL_TOKENS:])):
        expected = rows[part].sum(axis=0)
        assert encoded.views[0, view] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert np.array_equal(encoded.views[1], np.repeat(encoded.views[1, :1], len(VIEWS), axis=0))


def test_a_long_text_is_read_whole() -> None:
    encoder, rows = models.encoder(), models.table()
    encoded = encoder.encode(["plan " * 400])
    ids = encoded.tokens.of(0)
    n_windows = -(-len(ids) // WINDOW_TOKENS)
    assert encoded.window_offsets.tolist() == [0, n_windows]
    last = rows[ids[(n_windows - 1) * WINDOW_TOKENS :]].sum(axis=0)
    assert encoded.windows[-1] == pytest.approx(last / np.linalg.norm(last), abs=1e-5)


def test_a_table_without_a_row_for_every_token_is_refused(tmp_path: Path) -> None:
    n = models.encoder().tokenizer.vocab_size
    save_table(np.zeros((n - 1, 4), np.float32), tmp_path / "embeddings.safetensors")
    with pytest.raises(BundleError, match=f"has {n - 1:,} rows, expected one for each of the tokenizer's {n:,} tokens"):
        StaticEncoder.load(models.tokenizer_path(), tmp_path / "embeddings.safetensors")


def test_window_offsets_by_hand() -> None:
    tokens = TokenBatch(np.zeros(9, np.int32), np.array([0, 5, 5, 9]))
    starts, owners = window_offsets(tokens, size=2)
    assert starts.tolist() == [0, 2, 4, 5, 5, 7, 9]
    assert owners.tolist() == [0, 3, 4, 6]


def test_quantised_rows_are_within_half_a_step(tmp_path: Path) -> None:
    table = models.table()
    packed = quantise(table)
    assert packed["rows"].dtype == np.int8
    assert np.abs(packed["rows"] * packed["scales"][:, None] - table).max() <= packed["scales"].max() * 0.501
    save_table(table, tmp_path / "embeddings.safetensors")
    loaded = StaticEncoder.load(models.tokenizer_path(), tmp_path / "embeddings.safetensors")
    assert loaded.dimensions == table.shape[1]
    assert (
        loaded.encode(["plan a trip"]).embeddings @ models.encoder().encode(["plan a trip"]).embeddings.T
    ).item() > 0.999


def test_a_zero_row_stays_zero() -> None:
    assert l2_normalise(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist() == [
        [0.6000000238418579, 0.800000011920929],
        [0, 0],
    ]
