"""Shingles, the template index and induction: what is found, where, and that nothing depends on batching."""

from __future__ import annotations

import json
import threading
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.encoder import VIEWS, Encoded, TokenBatch, l2_normalise
from classifier.errors import BundleError
from classifier.induction import Sampled, find_clusters
from classifier.shingles import SHINGLE_WORDS, Hits, Shingler, ShingleTable, shingle_hashes, tally
from classifier.signatures import Facts, Signature
from classifier.templates import FACTS_FILE, SHINGLES_FILE, VECTORS_FILE, Matches, TemplateIndex, VectorIndex
from classifier.text import normalise_text
from classifier.types import Tier

DIMENSIONS = 16
FORGE = (
    "forge one puzzle from the fragment below and then forge its flawless answer "
    "without ever naming the fragment that you were handed"
)
GRADE = "grade both drafts against the card and give a whole number from one to nine for every axis before any verdict"
HELPDESK = (
    "you are the helpdesk of a bicycle shop and you answer only from the passages that follow "
    "grade both drafts against the card whenever a customer insists on it"
)
WORDS = (
    "river",
    "copper",
    "seven",
    "lantern",
    "orbit",
    "quilt",
    "marble",
    "thistle",
    "ember",
    "saddle",
    "pocket",
    "glacier",
)


def _vocabulary() -> dict[int, bytes]:
    """Every byte, and every letter after a space, as a byte-level tokenizer without other merges has them."""
    singles = [bytes([value]) for value in range(256)]
    return dict(enumerate([*singles, *(b" " + bytes([value]) for value in range(97, 123))]))


VOCABULARY = _vocabulary()
IDS = {raw: token for token, raw in VOCABULARY.items()}


def _tokens(*texts: str) -> TokenBatch:
    ids: list[int] = []
    offsets = [0]
    for text in texts:
        raw = text.encode()
        at = 0
        while at < len(raw):
            width = 2 if raw[at : at + 2] in IDS else 1
            ids.append(IDS[raw[at : at + width]])
            at += width
        offsets.append(len(ids))
    return TokenBatch(np.array(ids, np.int32), np.array(offsets, np.int64))


def _encode(*texts: str) -> Encoded:
    """Texts as one window each, embedded by their letters."""
    tokens = _tokens(*texts)
    table = np.random.default_rng(0).normal(size=(len(VOCABULARY), DIMENSIONS)).astype(np.float32)
    sums = [table[tokens.ids[a:b]].sum(axis=0) for a, b in pairwise(tokens.offsets)]
    rows = l2_normalise(np.array(sums, np.float32).reshape(len(texts), DIMENSIONS))
    return Encoded(tokens, np.stack([rows] * len(VIEWS), axis=1), rows, np.arange(len(texts) + 1))


SHINGLER = Shingler(VOCABULARY)


def _shingles(text: str) -> np.ndarray:
    return shingle_hashes(SHINGLER.words(_tokens(text)))


def _signature(name: str, text: str, tier: Tier, min_hits: int = 4) -> Signature:
    facts = Facts(
        f"{name}/0",
        name,
        None if tier is Tier.BENIGN else "seeding",
        None,
        tier,
        min_hits,
        0.5 if tier is Tier.BENIGN else 0.2,
    )
    return Signature(facts, _shingles(text), _encode(text).windows)


SIGNATURES = (
    _signature("forge", FORGE, Tier.EXCLUSIVE),
    _signature("grade", GRADE, Tier.PUBLIC),
    _signature("helpdesk", HELPDESK, Tier.BENIGN),
)
INDEX = TemplateIndex.build(SIGNATURES, SHINGLER, DIMENSIONS)


def _payload(*, seed: int, n: int = 20) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, n))


def test_words_are_letters_whatever_stands_between() -> None:
    plain = _shingles("sort the list of names by age")
    assert len(plain) == 7 - SHINGLE_WORDS + 1
    for same in (
        "1) sort **the** list-of names, by 'age'!",
        "sort_the_list of (names) 12 by age",
        "sort the list of names: by age",
    ):
        np.testing.assert_array_equal(_shingles(same), plain)
    assert not np.isin(_shingles("sort these lists of name by ages"), plain).any()


def test_hash_of_a_word_does_not_depend_on_how_it_was_cut() -> None:
    merged = Shingler({**VOCABULARY, 300: b" list", 301: b"na", 302: b"mes"})
    tokens = _tokens("sort the list of names")
    cut = b"sort the"
    whole = [*_tokens(cut.decode()).ids, 300, *_tokens(" of ").ids, 301, 302]
    batch = TokenBatch(np.array(whole, np.int32), np.array([0, len(whole)], np.int64))
    np.testing.assert_array_equal(shingle_hashes(merged.words(batch)), shingle_hashes(merged.words(tokens)))


def test_shingles_do_not_reach_into_the_next_text() -> None:
    words = SHINGLER.words(_tokens("one two", "three four five", "", "six"))
    np.testing.assert_array_equal(words.offsets, [0, 2, 5, 5, 6])
    np.testing.assert_array_equal(words.texts_of(np.arange(4)), [-1, -1, 1, -1])


def test_tally_counts_distinct_and_in_order() -> None:
    hits = Hits(
        text=np.array([0, 0, 0, 0, 0, 1]),
        word=np.array([3, 5, 6, 9, 12, 20]),
        owner=np.array([2, 2, 2, 2, 2, 2]),
        place=np.array([4, 5, 1, 4, 7, 0]),
    )
    found = tally(hits)
    np.testing.assert_array_equal(found.text, [0, 1])
    np.testing.assert_array_equal(found.distinct, [4, 1])  # places 4, 5, 1, 7; the second 4 counts no more
    np.testing.assert_array_equal(found.ordered, [3, 1])  # 1 after 5 breaks the order
    np.testing.assert_array_equal([*found.first, *found.last], [3, 20, 12, 20])


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=5), st.lists(st.integers(0, 60), max_size=40))
def test_table_finds_what_a_dictionary_finds(lists: list[list[int]], sought: list[int]) -> None:
    text = _payload(seed=1, n=70)
    hashes = _shingles(text)
    owners = [np.array([hashes[i % len(hashes)] for i in dict.fromkeys(places)], np.uint64) for places in lists]
    owners = [x[np.sort(np.unique(x, return_index=True)[1])] for x in owners]
    sent = " ".join(text.split()[i % 60] for i in sought)
    hits = ShingleTable(owners).find(SHINGLER.words(_tokens(sent)))
    expected = {
        (at, owner, place)
        for at, value in enumerate(_shingles(sent).tolist())
        for owner, known in enumerate(owners)
        for place, other in enumerate(known.tolist())
        if other == value
    }
    assert set(zip(hits.word.tolist(), hits.owner.tolist(), hits.place.tolist(), strict=True)) == expected
    assert len(hits.word) == len(expected)


def test_every_signature_finds_itself() -> None:
    matches = INDEX.match(_encode(FORGE, GRADE, HELPDESK))
    np.testing.assert_array_equal(matches.index, [0, 1, -1])
    np.testing.assert_array_equal(matches.benign, [-1, -1, 2])
    np.testing.assert_allclose(matches.coverage[:2], 1)
    np.testing.assert_allclose(matches.similarity[:2], 1, atol=1e-5)
    assert np.isnan(matches.coverage[2]) and np.isnan(matches.similarity[2])


def test_span_is_where_the_template_stands() -> None:
    before, after = _payload(seed=2), _payload(seed=3)
    matches = INDEX.match(_encode(f"{before} {FORGE} {after}"))
    start, end = len(_tokens(before).ids), len(_tokens(f"{before} {FORGE}").ids)
    assert (matches.index[0], matches.token_start[0], matches.token_end[0]) == (0, start, end)
    assert matches.coverage[0] == pytest.approx(1)


def test_payload_alone_and_too_little_of_a_template_do_not_match() -> None:
    head = " ".join(FORGE.split()[:SHINGLE_WORDS])
    matches = INDEX.match(_encode(_payload(seed=4), head, "", "forge"))
    np.testing.assert_array_equal(matches.index, -1)
    np.testing.assert_array_equal(matches.token_end, 0)


@pytest.mark.parametrize("case", ["dropped", "edited", "cut", "shuffled", "shouted"])
def test_match_survives_evasion(case: str) -> None:
    words = FORGE.split()
    disguised = {
        "dropped": [w for i, w in enumerate(words) if i % 7 != 3],
        "edited": [w + "x" if i % 8 == 3 else w for i, w in enumerate(words)],
        "cut": words[: len(words) * 6 // 10],
        "shuffled": [*words[12:], *words[:12]],
        "shouted": [w.upper() + " \u200b" for w in words],
    }[case]
    assert INDEX.match(_encode(normalise_text(" ".join(disguised)))).index[0] == 0


def test_exclusive_family_comes_before_a_public_one() -> None:
    matches = INDEX.match(_encode(f"{GRADE} {' '.join(FORGE.split()[:12])}"))
    assert SIGNATURES[matches.index[0]].facts.family == "forge"


def test_near_vectors_lower_the_bar_whatever_other_signatures_there_are() -> None:
    strict = [replace(s, facts=replace(s.facts, min_hits=10)) for s in SIGNATURES]
    some = _encode(" ".join(FORGE.split()[:10]))  # 8 shingles: more than 0.6 * 10
    assert TemplateIndex.build(strict, SHINGLER, DIMENSIONS).match(some).index[0] == 0
    nearer = Signature(replace(strict[1].facts, id="grade/1"), strict[1].shingles, np.repeat(some.windows, 50, axis=0))
    crowded = TemplateIndex.build([*strict, nearer], SHINGLER, DIMENSIONS)
    assert crowded.match(some).index[0] == 0
    blind = [replace(s, vectors=s.vectors[:0]) for s in strict]
    assert TemplateIndex.build(blind, SHINGLER, DIMENSIONS).match(some).index[0] == -1
    away = [replace(s, vectors=-s.vectors) for s in strict]
    assert TemplateIndex.build(away, SHINGLER, DIMENSIONS).match(some).index[0] == -1


def test_similarity_is_of_the_nearest_pair_however_many_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    many = l2_normalise(rng.normal(size=(7, DIMENSIONS)).astype(np.float32))
    index = TemplateIndex.build([replace(SIGNATURES[0], vectors=many), *SIGNATURES[1:]], SHINGLER, DIMENSIONS)
    encoded = _encode(FORGE, "", GRADE, FORGE + " river", FORGE)
    windows = l2_normalise(rng.normal(size=(11, DIMENSIONS)).astype(np.float32))
    encoded = replace(encoded, windows=windows, window_offsets=np.array([0, 3, 4, 6, 10, 11]))
    expected = [(windows[a:b] @ many.T).max() for a, b in ((0, 3), (6, 10), (10, 11))]
    expected.insert(1, (windows[4:6] @ SIGNATURES[1].vectors.T).max())
    for most in (1, 20, 1000):
        monkeypatch.setattr("classifier.templates._MOST_PAIRS", most)
        found = index.match(encoded).similarity
        np.testing.assert_allclose(found[[0, 2, 3, 4]], expected, atol=1e-6)
        assert np.isnan(found[1])


def test_an_index_in_use_is_not_disturbed_by_its_successor() -> None:
    """Readers keep matching with whatever reference they took while bigger indexes are built and swapped in."""
    encoded = _encode(FORGE, GRADE, HELPDESK)
    expected, holder = INDEX.match(encoded), [INDEX]
    swapped, wrong = threading.Event(), list[str]()

    def read() -> None:
        while not swapped.is_set():
            found = holder[0].match(encoded)
            wrong.extend(field.name for field in fields(Matches) if not _same(found, expected, field.name))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for step in range(30):
            more = [_signature(f"more_{step}_{i}", _payload(seed=1000 + step * 5 + i), Tier.PUBLIC) for i in range(5)]
            holder[0] = holder[0].with_signatures(more)
    finally:
        swapped.set()
        for reader in readers:
            reader.join()
    assert wrong == [] and len(holder[0].signatures) == len(SIGNATURES) + 150
    assert INDEX.signatures == SIGNATURES and _same(INDEX.match(encoded), expected, "index")


def _same(one: Matches, other: Matches, name: str) -> bool:
    return np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name in ("similarity", "coverage"))


def test_benign_signature_excuses_only_its_own_shingles() -> None:
    shared = "grade both drafts against the card"  # also in GRADE, and enough for it by itself
    system, around = HELPDESK, f"{HELPDESK} {_payload(seed=5)} {FORGE}"
    matches = INDEX.match(_encode(shared, system, around, f"{GRADE} {_payload(seed=6)} {system}"))
    np.testing.assert_array_equal(matches.index, [1, -1, 0, 1])
    np.testing.assert_array_equal(matches.benign, [-1, 2, 2, 2])
    inside = len(_tokens(HELPDESK).ids)
    assert (matches.benign_start[2], matches.benign_end[2]) == (0, inside)
    assert matches.token_start[2] > inside


@given(
    st.lists(st.sampled_from([FORGE, GRADE, HELPDESK, FORGE[:60], "", "the", _payload(seed=7)]), min_size=1, max_size=4)
)
def test_batch_of_n_equals_n_batches_of_one(parts: list[str]) -> None:
    texts = [" ".join(parts[i:] + parts[:i]) for i in range(len(parts))] + parts
    together, alone = INDEX.match(_encode(*texts)), [INDEX.match(_encode(text)) for text in texts]
    for field in fields(Matches):
        singly = np.concatenate([getattr(match, field.name) for match in alone])
        np.testing.assert_allclose(getattr(together, field.name), singly, atol=1e-6)


def _many_vectors(n: int, families: int) -> list[Signature]:
    """n signatures of three vectors, near those of as many families."""
    rng = np.random.default_rng(8)
    centres = l2_normalise(rng.normal(size=(families, DIMENSIONS)))
    spread = centres[rng.integers(families, size=n * 3)] + rng.normal(scale=0.05, size=(n * 3, DIMENSIONS))
    vectors = l2_normalise(spread.astype(np.float32))
    return [replace(SIGNATURES[0], vectors=vectors[i * 3 : i * 3 + 3]) for i in range(n)]


def test_faiss_equals_brute_force_however_many_ask() -> None:
    index = TemplateIndex.build(_many_vectors(30, families=90), SHINGLER, DIMENSIONS)
    windows = l2_normalise(np.random.default_rng(9).normal(size=(50, DIMENSIONS)).astype(np.float32))
    similarity, owners = index.vectors.nearest(windows)
    exact = windows @ index.vectors.rows.T
    best = np.argsort(-exact, axis=1)[:, :8]
    np.testing.assert_array_equal(owners, best // 3)
    np.testing.assert_allclose(similarity, np.take_along_axis(exact, best, axis=1), atol=1e-6)
    alone = [index.vectors.nearest(window[None]) for window in windows]
    np.testing.assert_allclose(np.concatenate([s for s, _ in alone]), similarity, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([o for _, o in alone]), owners)


def test_many_vectors_are_searched_by_lists_alike_each_time_and_stored_flat(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signatures = _many_vectors(1000, families=100)
    flat = VectorIndex(signatures, DIMENSIONS)
    exact = flat.nearest(flat.rows[:200])
    monkeypatch.setattr("classifier.templates.MOST_FLAT", 1000)
    one, other = VectorIndex(signatures, DIMENSIONS), VectorIndex(signatures, DIMENSIONS)
    similarity, owners = one.nearest(one.rows[:200])
    assert one.searched is not one.flat and flat.searched is flat.flat
    np.testing.assert_array_equal(owners, other.nearest(other.rows[:200])[1])
    np.testing.assert_array_equal(owners[:, 0], np.arange(200) // 3)
    assert np.mean(similarity >= exact[0][:, -1:] - 1e-6) >= 0.99
    TemplateIndex.build(signatures[:400], SHINGLER, DIMENSIONS).save(tmp_path)
    stored = (tmp_path / VECTORS_FILE).read_bytes()
    monkeypatch.undo()
    TemplateIndex.build(signatures[:400], SHINGLER, DIMENSIONS).save(tmp_path)
    assert (tmp_path / VECTORS_FILE).read_bytes() == stored


def test_empty_index_matches_nothing(tmp_path: Path) -> None:
    TemplateIndex.build([], SHINGLER, DIMENSIONS).save(tmp_path)
    matches = TemplateIndex.load(tmp_path, SHINGLER, DIMENSIONS).match(_encode(FORGE, ""))
    np.testing.assert_array_equal(matches.index, [-1, -1])


def test_saved_index_comes_back_and_holds_no_text(tmp_path: Path) -> None:
    INDEX.save(tmp_path)
    loaded = TemplateIndex.load(tmp_path, SHINGLER, DIMENSIONS)
    assert [s.facts for s in loaded.signatures] == [s.facts for s in SIGNATURES]
    for ours, theirs in zip(SIGNATURES, loaded.signatures, strict=True):
        np.testing.assert_array_equal(ours.shingles, theirs.shingles)
        np.testing.assert_array_equal(ours.vectors, theirs.vectors)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == [SHINGLES_FILE, VECTORS_FILE, FACTS_FILE]
    assert not any(word.encode() in stored for word in ("puzzle", "flawless", "passages", "insists"))


def _rewrite_header(folder: Path, **changes: object) -> None:
    header, *rows = (folder / FACTS_FILE).read_text().splitlines(keepends=True)
    (folder / FACTS_FILE).write_text("".join([json.dumps({**json.loads(header), **changes}) + "\n", *rows]))


@pytest.mark.parametrize("name", [SHINGLES_FILE, VECTORS_FILE, FACTS_FILE])
@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    INDEX.save(tmp_path)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: 0 if damage == "empty" else len(raw) // 2])
    if damage == "missing":
        (tmp_path / name).unlink()
    with pytest.raises(BundleError, match="no readable template index"):
        TemplateIndex.load(tmp_path, SHINGLER, DIMENSIONS)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    INDEX.save(tmp_path)
    with pytest.raises(BundleError, match="do not fit"):
        TemplateIndex.load(tmp_path, SHINGLER, DIMENSIONS + 1)
    _rewrite_header(tmp_path, signatures=2)
    with pytest.raises(BundleError, match="do not fit"):
        TemplateIndex.load(tmp_path, SHINGLER, DIMENSIONS)
    _rewrite_header(tmp_path, signatures=3, version=2)
    with pytest.raises(BundleError, match="version 2"):
        TemplateIndex.load(tmp_path, SHINGLER, DIMENSIONS)


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    TemplateIndex.build([SIGNATURES[0], SIGNATURES[0]], SHINGLER, DIMENSIONS).save(tmp_path)
    with pytest.raises(BundleError, match="more than once"):
        TemplateIndex.load(tmp_path, SHINGLER, DIMENSIONS)


def _sampled(texts: list[str]) -> Sampled:
    return Sampled.of(SHINGLER.words(_tokens(*texts)))


NOTHING = np.empty(0, np.uint64)


def test_induction_keeps_what_is_constant_in_order() -> None:
    texts = [f"{_payload(seed=s, n=s % 5)} {FORGE} {_payload(seed=s + 100)}".strip() for s in range(10)]
    (cluster,) = find_clusters(_sampled(texts), NOTHING, least=5)
    np.testing.assert_array_equal(cluster.shingles, _shingles(FORGE))
    assert cluster.members.all() and not cluster.pooled


def test_induction_finds_each_wording_and_ignores_strays() -> None:
    texts = [f"{text} {_payload(seed=s)}" for s in range(8) for text in (FORGE, GRADE)] + [
        _payload(seed=s) for s in (50, 51)
    ]
    clusters = find_clusters(_sampled(texts), NOTHING, least=4)
    found = {frozenset(cluster.shingles.tolist()): int(cluster.members.sum()) for cluster in clusters}
    assert found == {frozenset(_shingles(FORGE).tolist()): 8, frozenset(_shingles(GRADE).tolist()): 8}


def test_induction_drops_what_honest_text_or_a_single_account_says() -> None:
    texts = [f"{FORGE} {_payload(seed=s)}" for s in range(10)]
    common = _shingles(" ".join(FORGE.split()[:8]))
    (cluster,) = find_clusters(_sampled(texts), common, least=5)
    np.testing.assert_array_equal(cluster.shingles, _shingles(FORGE)[len(common) :])
    assert find_clusters(_sampled(texts), NOTHING, least=5, accounts=np.zeros(10, np.int64)) == []
    assert len(find_clusters(_sampled(texts), NOTHING, least=5, accounts=np.arange(10) % 2)) == 1


def test_induction_finds_nothing_in_samples_without_a_template() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    rng = np.random.default_rng(9)
    texts = [" ".join("".join(rng.choice(list(letters), 6)) for _ in range(30)) for _ in range(20)]
    assert find_clusters(_sampled(texts), NOTHING, least=5) == []
    assert find_clusters(_sampled(["", "", ""]), NOTHING, least=2) == []


def test_induction_gathers_parts_drawn_from_a_pool() -> None:
    rng = np.random.default_rng(10)
    parts = [" ".join("".join(rng.choice(list("abcdefgh"), 5)) for _ in range(8)) for _ in range(40)]
    texts = [" ".join(parts[i] for i in rng.choice(40, 6, replace=False)) for _ in range(120)]
    clusters = find_clusters(_sampled(texts), NOTHING, least=5)
    assert [cluster.pooled for cluster in clusters] == [True]
    inside = np.concatenate([_shingles(part) for part in parts])
    assert np.isin(inside, clusters[0].shingles).all()
