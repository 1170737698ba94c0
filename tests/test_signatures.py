"""Signatures from samples: tiers, thresholds and applications, on texts written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Trainer
from tokenizers import decoders, models, pre_tokenizers, trainers

from classifier.encoder import StaticEncoder, Tokenizer
from classifier.shingles import Shingler
from classifier.signing import Family, Honest
from classifier.templates import TemplateIndex
from classifier.types import Tier
from training.signatures import build, honest_texts, read_families, written_samples

DIMENSIONS = 16
FORGE = "Forge one puzzle from the stock below.\n1. Never name the stock.\n2. End with a worked answer.\n\n{stock}"
SPARK = "Here is the spark: {stock}\n\nLet it grow into a riddle that no reader can trace back to where it began."
JUDGE = (
    "Weigh draft A against draft B on candour and on craft, then write the single letter of the better one.\n{stock}"
)
CLERK = (
    "You are the clerk of a small library. Use only the shelf list that follows.\n{stock}\nAnswer in two short lines."
)
GUIDE = "You guide visitors through a garden. {stock} Keep to plants that flower this month and mention their bed."
WORDS = ("river", "copper", "seven", "lantern", "orbit", "quilt", "marble", "thistle", "ember", "saddle", "pocket")


def _payloads(seed: int, n: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, int(rng.integers(4, 30)))) for _ in range(n)]


def _fill(template: str, seed: int, n: int = 30) -> list[str]:
    return [template.replace("{stock}", payload) for payload in _payloads(seed, n)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    bpe = Trainer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([*_payloads(0, 100), FORGE.lower(), JUDGE.lower(), CLERK.lower()], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    bpe.save(str(path))
    tokenizer = Tokenizer(path)
    table = np.random.default_rng(0).normal(size=(tokenizer.vocab_size, DIMENSIONS)).astype(np.float32)
    return StaticEncoder(tokenizer, table)


@pytest.fixture(scope="module")
def shingler(encoder: StaticEncoder) -> Shingler:
    return Shingler(encoder.tokenizer.vocabulary())


@pytest.fixture(scope="module")
def honest(encoder: StaticEncoder) -> Honest:
    people = _payloads(1, 300)
    return honest_texts([*people, *_fill(CLERK, 2)], ["people"] * 300 + ["library"] * 30, encoder)


FAMILIES = [
    Family("forge", "code_synthesis", "coding", Tier.EXCLUSIVE),
    Family("judge", "preference_judging", None, Tier.PUBLIC),
    Family("clerk", None, None, Tier.BENIGN, group="library"),
]
SAMPLES = {"forge": _fill(FORGE, 3) + _fill(SPARK, 4), "judge": _fill(JUDGE, 5), "clerk": _fill(CLERK, 2)}


@pytest.fixture(scope="module")
def index(encoder: StaticEncoder, shingler: Shingler, honest: Honest) -> TemplateIndex:
    return TemplateIndex.build(build(FAMILIES, SAMPLES, honest, encoder, shingler), shingler, DIMENSIONS)


def _named(index: TemplateIndex, numbers: np.ndarray) -> list[str | None]:
    return [index.signatures[i].facts.family if i >= 0 else None for i in numbers]


def test_new_payloads_are_matched_and_named(index: TemplateIndex, encoder: StaticEncoder) -> None:
    texts = [
        _fill(template, seed, 1)[0].lower() for template, seed in ((FORGE, 20), (SPARK, 21), (JUDGE, 22), (CLERK, 23))
    ]
    matches = index.match(encoder.encode([" ".join(text.split()) for text in texts]))
    assert _named(index, matches.index) == ["forge", "forge", "judge", None]
    assert _named(index, matches.benign) == [None, None, None, "clerk"]
    assert (matches.coverage[:3] > 0.8).all()
    assert (matches.similarity[:3] > 0.5).all()


def test_honest_text_is_not_matched(index: TemplateIndex, encoder: StaticEncoder) -> None:
    matches = index.match(encoder.encode(_payloads(30, 200)))
    np.testing.assert_array_equal(matches.index, -1)
    np.testing.assert_array_equal(matches.benign, -1)


def test_every_wording_has_its_signature_with_the_family_s_facts(index: TemplateIndex) -> None:
    facts = [signature.facts for signature in index.signatures]
    assert [fact.id for fact in facts] == ["forge/0", "forge/1", "judge/0", "clerk/0"]
    assert [(fact.technique, fact.target, fact.tier) for fact in facts[1:]] == [
        ("code_synthesis", "coding", Tier.EXCLUSIVE),
        ("preference_judging", None, Tier.PUBLIC),
        (None, None, Tier.BENIGN),
    ]


def test_build_is_deterministic(
    index: TemplateIndex, encoder: StaticEncoder, shingler: Shingler, honest: Honest
) -> None:
    for first, second in zip(index.signatures, build(FAMILIES, SAMPLES, honest, encoder, shingler), strict=True):
        assert first.facts == second.facts
        np.testing.assert_array_equal(first.shingles, second.shingles)
        np.testing.assert_array_equal(first.vectors, second.vectors)


def test_template_that_honest_people_send_gives_no_signature(encoder: StaticEncoder, shingler: Shingler) -> None:
    honest = honest_texts([*_fill(FORGE, 6, 3), *_payloads(7, 300)], ["people"] * 303, encoder)
    assert build(FAMILIES[:1], {"forge": _fill(FORGE, 3)}, honest, encoder, shingler) == []


def test_text_that_one_honest_prompt_holds_whole_makes_its_family_public(
    encoder: StaticEncoder, shingler: Shingler
) -> None:
    honest = honest_texts([*_fill(FORGE, 6, 1), *_payloads(7, 300)], ["people"] * 301, encoder)
    (signature,) = build(FAMILIES[:1], {"forge": _fill(FORGE, 3)}, honest, encoder, shingler)
    assert signature.facts.tier is Tier.PUBLIC


def test_exclusive_signature_holds_nothing_of_a_public_family(
    encoder: StaticEncoder, shingler: Shingler, honest: Honest
) -> None:
    mixed = [f"{forge}\n{judge}" for forge, judge in zip(_fill(FORGE, 8), _fill(JUDGE, 9), strict=True)]
    samples = {"forge": mixed, "judge": SAMPLES["judge"]}
    forge, judge = build(FAMILIES[:2], samples, honest, encoder, shingler)
    assert not np.isin(forge.shingles, judge.shingles).any()


def test_another_repository_s_wording_is_common(encoder: StaticEncoder, shingler: Shingler, honest: Honest) -> None:
    guide = Family("guide", None, None, Tier.BENIGN, group="garden")
    own, foreign = (
        build([family], {family.name: texts}, honest, encoder, shingler)
        for family, texts in ((FAMILIES[2], _fill(CLERK, 10)), (guide, _fill(CLERK, 10)))
    )
    assert len(own) == 1 and foreign == []
    assert len(build([guide], {"guide": _fill(GUIDE, 11)}, honest, encoder, shingler)) == 1


def test_facts_files_are_read_and_slots_filled(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        "[[family]]\nfamily = 'a'\ntechnique = 't'\ncapability = 'coding'\ntier = 'exclusive'\n"
        "text = 'Take {stock}, keep {\"key\": 1}, give {kind}.'\n"
        "[[family]]\nfamily = 'b'\ntechnique = 'u'\ncapability = 'none'\ntier = 'public'\n"
        "has_template = false\ntext = ''\n"
    )
    assert read_families(path) == [Family("a", "t", "coding", Tier.EXCLUSIVE)]
    assert written_samples(path, ["x"], n=2, seed=0)["a"] == ['Take x, keep {"key": 1}, give x.'] * 2
