"""Word shingles: hashes of runs of words, the fixed points by which a known text is recognised inside another.

Between encoder and templates: token ids -> **shingles** -> templates. A table of known shingles finds them in a batch
of texts. Only letters count: spaces, digits, punctuation and markup separate words and are not hashed, so numbering,
quoting and formatting change nothing. A word's hash depends on its letters and not on how the tokenizer cut it, hence
signatures outlive a tokenizer (scripts without spaces apart: there a token is a word).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier.encoder import TokenBatch

SHINGLE_WORDS = 3
"""Words a shingle: with 4, fewer survive when words are dropped; with 2, honest phrases recur by chance."""

_MASK = (1 << 64) - 1
# Odd multipliers of hashes modulo 2^64: the golden ratio and the finaliser of splitmix64 (Steele et al. 2014).
_BYTE_BASE = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_WORD_BASE = np.uint64(0x94D049BB133111EB)
MOST_TOKENS = 6  # tokens of a word that are hashed: beyond is base64 and the like, which no fixed text holds

_FILTER_CELLS = 5  # 2^5 cells of the filter for each known shingle: 3 % of unknown ones pass on to the exact look-up
_MOST_FILTER_BITS = 27

_SILENT, _CONTINUES, _BEGINS = 0, 1, 2


@dataclass(frozen=True)
class Words:
    """Words of n texts end to end: word i of text t has `offsets[t] <= i < offsets[t + 1]`.

    `hashes` u64 [w]; `first`, `last`: index of a word's first and last token into the batch's ids, [w].
    """

    hashes: NDArray[np.uint64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def texts_of(self, shingles: NDArray[np.int64]) -> NDArray[np.int64]:
        """Text of each shingle (named by its first word), -1 for one that reaches into the next text."""
        texts = np.searchsorted(self.offsets, shingles, side="right") - 1
        return np.where(shingles + SHINGLE_WORDS <= self.offsets[texts + 1], texts, -1)


class Shingler:
    """Words and shingles of token ids, by one table row a token. `vocabulary`: id -> bytes of the token."""

    def __init__(self, vocabulary: Mapping[int, bytes]) -> None:
        size = max(vocabulary) + 1
        self._role = np.zeros(size, np.uint8)
        self._hash = np.zeros(size, np.uint64)
        self._power = np.ones(size, np.uint64)
        self._ends = np.zeros(size, np.bool_)
        powers = [pow(_BYTE_BASE, length, 1 << 64) for length in range(max(map(len, vocabulary.values())) + 1)]
        for token, raw in vocabulary.items():
            self._role[token], letters, self._ends[token] = _read_token(raw)
            self._hash[token], self._power[token] = _polynomial(letters), powers[len(letters)]

    def words(self, tokens: TokenBatch) -> Words:
        """Words of each text."""
        begins = self._begins(tokens)
        spoken = np.flatnonzero(begins)
        heads = np.flatnonzero(begins.take(spoken) == _BEGINS)
        ends = np.append(heads[1:], len(spoken)) if len(heads) else heads
        first = spoken.take(heads)
        hashes = self._fold(tokens.ids.take(spoken), heads, ends)
        return Words(hashes, first, spoken.take(ends - 1), np.searchsorted(first, tokens.offsets))

    def _begins(self, tokens: TokenBatch) -> NDArray[np.uint8]:
        """Role of each token in its place.

        A token begins a word also after one that ended it, and at the head of a text.
        """
        roles = self._role.take(tokens.ids)
        after = np.empty(len(roles), np.bool_)
        after[1:] = self._ends.take(tokens.ids[:-1])
        heads = tokens.offsets[:-1]
        after[heads[heads < len(roles)]] = True
        roles[after & (roles == _CONTINUES)] = _BEGINS
        return roles

    def _fold(self, ids: NDArray[np.int32], heads: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hash of each word: the polynomial of its bytes, token by token (few words have a second), then mixed."""
        hashes = self._hash.take(ids.take(heads))
        longer = np.flatnonzero(ends - heads > 1)
        for step in range(1, MOST_TOKENS):
            token = ids.take(heads.take(longer) + step)
            hashes[longer] = hashes.take(longer) * self._power.take(token) + self._hash.take(token)
            longer = longer[ends.take(longer) - heads.take(longer) > step + 1]
            if not len(longer):
                break
        return (hashes ^ (hashes >> np.uint64(29))) * _MIX


def shingle_hashes(words: Words) -> NDArray[np.uint64]:
    """Hash of the SHINGLE_WORDS words from each word on, u64 [max(w - SHINGLE_WORDS + 1, 0)].

    Includes those that reach into the next text: few of them are ever looked at, and `Words.texts_of` tells.
    """
    count = max(len(words.hashes) - SHINGLE_WORDS + 1, 0)
    folded = words.hashes[:count].copy()
    for step in range(1, SHINGLE_WORDS):
        folded *= _WORD_BASE
        folded += words.hashes[step : step + count]
    return folded


def words_within(words: Words, shingles: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each word stands in one of the shingles, [w]."""
    hashes = shingle_hashes(words)
    known = np.isin(hashes, shingles) & (words.texts_of(np.arange(len(hashes))) >= 0)
    within = np.zeros(len(words.hashes), np.bool_)
    for step in range(SHINGLE_WORDS):
        within[step : step + len(known)] |= known
    return within


@dataclass(frozen=True)
class Hits:
    """Known shingles found, in text order.

    `text`, `word` (its first, in the batch), `owner` and `place` in it, all int64 [h].
    """

    text: NDArray[np.int64]
    word: NDArray[np.int64]
    owner: NDArray[np.int64]
    place: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> Hits:
        return Hits(self.text[chosen], self.word[chosen], self.owner[chosen], self.place[chosen])


@dataclass(frozen=True)
class Tally:
    """Hits by (text, owner), sorted so, all int64 [g].

    `distinct` shingles met; `ordered`: those of them that keep the owner's order; `first` and `last`: word of the first
    and last hit.
    """

    text: NDArray[np.int64]
    owner: NDArray[np.int64]
    distinct: NDArray[np.int64]
    ordered: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Tally:
        """The chosen rows, by mask or by number."""
        columns = (self.text, self.owner, self.distinct, self.ordered, self.first, self.last)
        return Tally(*(column[chosen] for column in columns))


class ShingleTable:
    """Look-up from shingle to the owners that have it, and where.

    `lists`: distinct shingles of each owner, in order.
    """

    def __init__(self, lists: Sequence[NDArray[np.uint64]]) -> None:
        hashes = np.concatenate([np.empty(0, np.uint64), *lists])
        order = np.argsort(hashes, kind="stable")
        self._keys, heads = np.unique(hashes[order], return_index=True)
        self._offsets = np.append(heads, len(hashes))
        self._owner = np.repeat(np.arange(len(lists)), [len(x) for x in lists])[order]
        self._place = np.concatenate([np.empty(0, np.int64), *(np.arange(len(x)) for x in lists)])[order]
        bits = min((max(len(self._keys), 1) << _FILTER_CELLS).bit_length(), _MOST_FILTER_BITS)
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, np.bool_)
        self._filter[self._cells(self._keys)] = True

    def _cells(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes >> self._shift).view(np.int64)

    def find(self, words: Words) -> Hits:
        """Every occurrence of every owner's shingles. Nearly all unknown shingles stop at the filter."""
        hashes = shingle_hashes(words)
        maybe = np.flatnonzero(self._filter.take(self._cells(hashes)))
        slots = np.searchsorted(self._keys, hashes.take(maybe))
        texts = words.texts_of(maybe)
        known = (slots < len(self._keys)) & (texts >= 0)
        known[known] = self._keys[slots[known]] == hashes[maybe[known]]
        slots, counts = slots[known], np.diff(self._offsets)[slots[known]]
        posting = np.arange(counts.sum()) + np.repeat(self._offsets[slots] - np.cumsum(counts) + counts, counts)
        text, word = np.repeat(texts[known], counts), np.repeat(maybe[known], counts)
        return Hits(text, word, self._owner[posting], self._place[posting])


def tally(hits: Hits) -> Tally:
    """Count hits by (text, owner).

    A shingle counts where it is first met, and keeps the order if it stands after the one met before it in the owner's
    list too: cheaper than the longest increasing run, equal to it for an intact template, and a block moved elsewhere
    costs one.
    """
    if not len(hits.text):
        return Tally(*(np.empty(0, np.int64) for _ in range(6)))
    order = np.lexsort((hits.word, hits.owner, hits.text))
    text, owner, word, place = hits.text[order], hits.owner[order], hits.word[order], hits.place[order]
    opens = np.append(True, (text[1:] != text[:-1]) | (owner[1:] != owner[:-1]))
    heads, group = np.flatnonzero(opens), np.cumsum(opens) - 1
    met = np.sort(np.unique(group * (place.max() + 1) + place, return_index=True)[1])
    group, place = group[met], place[met]
    rises = np.append(True, (group[1:] != group[:-1]) | (place[1:] > place[:-1]))
    ends = np.append(heads[1:], len(text)) - 1
    return Tally(text[heads], owner[heads], np.bincount(group), np.bincount(group[rises]), word[heads], word[ends])


def _polynomial(letters: bytes) -> int:
    value = 0
    for byte in letters:
        value = (value * _BYTE_BASE + byte + 1) & _MASK
    return value


def _read_token(raw: bytes) -> tuple[int, bytes, bool]:
    """Role of a token, its letters, and whether it ends the word it stands in."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:  # part of a character: goes with what stands before, unless a space does
        return _BEGINS if raw[:1] == b" " else _CONTINUES, raw.strip(), False
    letters = "".join(filter(str.isalpha, text))
    if not letters:
        return _SILENT, b"", True
    spaceless = letters[0] >= "\u0e00"  # Thai, kana, Han ...: no spaces between words, so every token is a word
    return _BEGINS if spaceless or not text[0].isalpha() else _CONTINUES, letters.encode(), not text[-1].isalpha()
