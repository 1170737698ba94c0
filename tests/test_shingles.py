"""Words and look-up against plain reference implementations: what is fast is what is said."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classifier.encoder import TokenBatch
from classifier.shingles import MOST_TOKENS, SHINGLE_WORDS, Shingler, ShingleTable, Words, shingle_hashes

SPELLED = (b"na", b" list", b"x", b" ", b" 12", b"-a", b"b.", b" end!", b"\xe4\xb8", b" \xe4", "中".encode(), b"\n\nIf")
VOCABULARY = dict(enumerate(SPELLED))
SHINGLER = Shingler(VOCABULARY)

Texts = st.lists(st.lists(st.integers(0, len(SPELLED) - 1), max_size=14), max_size=5)


def _batch(texts: list[list[int]]) -> TokenBatch:
    ids = np.array([token for text in texts for token in text], np.int32)
    return TokenBatch(ids, np.cumsum([0, *map(len, texts)]))


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _letters(raw: bytes) -> bytes:
    text = _decoded(raw)
    return raw.strip() if text is None else "".join(filter(str.isalpha, text)).encode()


def _begins(raw: bytes) -> bool:
    """Whether a token begins a word wherever it stands."""
    text = _decoded(raw)
    return raw[:1] == b" " if text is None else not text[0].isalpha() or text[0] >= "\u0e00"


def _plain_words(text: list[int]) -> list[list[int]]:
    """Places of the tokens of each word."""
    words: list[list[int]] = []
    ended = True
    for place, token in enumerate(text):
        raw = VOCABULARY[token]
        if _letters(raw) and (ended or _begins(raw)):
            words.append([place])
        elif _letters(raw):
            words[-1].append(place)
        spelled = _decoded(raw)
        ended = not _letters(raw) or (spelled is not None and not spelled[-1].isalpha())
    return words


@given(Texts)
def test_words_are_what_a_plain_reader_finds(texts: list[list[int]]) -> None:
    words = SHINGLER.words(_batch(texts))
    heads = np.cumsum([0, *map(len, texts)])
    expected = [[heads[i] + at for at in word] for i, text in enumerate(texts) for word in _plain_words(text)]
    np.testing.assert_array_equal(words.first, [word[0] for word in expected])
    np.testing.assert_array_equal(words.last, [word[-1] for word in expected])
    np.testing.assert_array_equal(np.diff(words.offsets), [len(_plain_words(text)) for text in texts])


@given(Texts)
def test_words_of_the_same_letters_have_the_same_hash_and_others_another(texts: list[list[int]]) -> None:
    hashes = SHINGLER.words(_batch(texts)).hashes.tolist()
    spelled = [
        b"".join(_letters(VOCABULARY[text[at]]) for at in word[:MOST_TOKENS])
        for text in texts
        for word in _plain_words(text)
    ]
    assert len(set(zip(spelled, hashes, strict=True))) == len(set(spelled)) == len(set(hashes))


def _words_of(hashes: np.ndarray) -> Words:
    """One text of words with the given hashes."""
    places = np.arange(len(hashes))
    return Words(hashes, places, places, np.array([0, len(hashes)]))


@given(st.integers(0, 300), st.integers(0, 2**32 - 1), st.sampled_from([64, 8]))
def test_table_finds_what_brute_force_finds(n: int, seed: int, bits: int) -> None:
    """Also where hashes crowd together, as they would if somebody chose them so."""
    rng = np.random.default_rng(seed)
    words = _words_of(rng.integers(1 << 64, size=60, dtype=np.uint64))
    said = shingle_hashes(words)
    others = rng.integers(1 << bits, size=n, dtype=np.uint64)
    pool = np.unique(np.concatenate([rng.choice(said, 20), others]))
    lists = [rng.permutation(pool)[: rng.integers(len(pool) + 1)] for _ in range(4)]
    hits = ShingleTable(lists).find(words)
    expected = [
        (at, owner, place)
        for at in range(len(said))
        for owner, known in enumerate(lists)
        for place in np.flatnonzero(known == said[at]).tolist()
    ]
    assert list(zip(hits.word.tolist(), hits.owner.tolist(), hits.place.tolist(), strict=True)) == expected


def test_no_owners_or_none_with_shingles_find_nothing() -> None:
    words = _words_of(np.arange(SHINGLE_WORDS + 2, dtype=np.uint64))
    for lists in ([], [np.empty(0, np.uint64)] * 2):
        assert len(ShingleTable(lists).find(words).word) == 0
