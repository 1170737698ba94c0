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

_FILTER_BITS, _FILTER_MARKS = 16, 3
"""Bits of the filter for each known shingle, and how many it sets: under 1 % of unknown ones pass, 43,000 shingles take
128 KiB and twelve million 32 MiB. More bits would leave the cache, fewer would send more to the exact look-up."""
_FILTER_MASKS = 4096
_LAST_MASK = np.uint64(_FILTER_MASKS - 1)

_CONTINUES_BIT, _ENDS_BIT = 1, 2
_SILENT, _BEGINS, _CONTINUES, _ENDS = 0, 1, 1 << _CONTINUES_BIT, 1 << _ENDS_BIT
"""What a token does to words, as bits: it begins one; it goes on with the one that stands before it, or begins one
where none does; whatever follows it begins one."""


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
        texts = self.offsets.searchsorted(shingles, side="right") - 1
        return np.where(shingles + SHINGLE_WORDS <= self.offsets[texts + 1], texts, -1)


class Shingler:
    """Words and shingles of token ids, by one table row a token. `vocabulary`: id -> bytes of the token."""

    def __init__(self, vocabulary: Mapping[int, bytes]) -> None:
        size = max(vocabulary) + 1
        self._role = np.zeros(size, np.uint8)
        self._hash = np.zeros(size, np.uint64)
        self._power = np.ones(size, np.uint64)
        powers = [pow(_BYTE_BASE, length, 1 << 64) for length in range(max(map(len, vocabulary.values())) + 1)]
        for token, raw in vocabulary.items():
            self._role[token], letters = _read_token(raw)
            self._hash[token], self._power[token] = _polynomial(letters), powers[len(letters)]

    def words(self, tokens: TokenBatch) -> Words:
        """Words of each text. A word's tokens stand side by side: one that is silent also ends the word before it."""
        ids = tokens.ids.astype(np.intp)  # once, or every look-up would convert them
        begins, continues = self._parts(ids, tokens.offsets)
        first = begins.nonzero()[0]
        ends = begins | continues
        ends[:-1] &= ~continues[1:]
        last = ends.nonzero()[0]
        return Words(self._fold(ids, first, last), first, last, first.searchsorted(tokens.offsets))

    def _parts(self, ids: NDArray[np.intp], offsets: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each token begins a word, and whether it goes on with one, [t] each.

        A token begins a word also after one that ended it, and at the head of a text.
        """
        roles = self._role.take(ids)
        after = np.empty(len(roles), np.uint8)
        after[1:] = roles[:-1] >> _ENDS_BIT
        heads = offsets[:-1]
        after[heads[heads < len(roles)]] = 1
        may_continue = roles >> _CONTINUES_BIT & 1
        begins = roles & _BEGINS | may_continue & after
        return begins.view(np.bool_), (may_continue & ~after).view(np.bool_)  # each 0 or 1, so bytes are booleans

    def _fold(self, ids: NDArray[np.intp], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hash of each word: the polynomial of its bytes, token by token (few words have a second), then mixed."""
        hashes = self._hash.take(ids.take(first))
        longer = (last > first).nonzero()[0]
        for step in range(1, MOST_TOKENS):
            at = first.take(longer) + step
            token = ids.take(at)
            hashes[longer] = hashes.take(longer) * self._power.take(token) + self._hash.take(token)
            longer = longer[last.take(longer) > at]
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
    """Known shingles found, in the order in which they stand.

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


_NONE = np.empty(0, np.int64)
NO_HITS = Hits(_NONE, _NONE, _NONE, _NONE)
NO_TALLY = Tally(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE)


class _Filter:
    """Bloom filter in blocks of 64 bits: a shingle sets _FILTER_MARKS bits of one word, so asking costs one fetch."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        words = max(len(keys) * _FILTER_BITS // 64, 1)
        self._shift = np.uint64(64 - max((words - 1).bit_length(), 1))
        places = np.random.default_rng(0).random((_FILTER_MASKS, 64)).argsort(axis=1)[:, :_FILTER_MARKS]
        self._masks = np.bitwise_or.reduce(np.uint64(1) << places.astype(np.uint64), axis=1)
        self._unset = np.full(1 << (64 - int(self._shift)), _MASK, np.uint64)
        np.bitwise_and.at(self._unset, self._words(keys), ~self._marks(keys))

    def _words(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes >> self._shift).view(np.int64)

    def _marks(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return np.asarray(self._masks.take((hashes & _LAST_MASK).view(np.int64)))

    def passing(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Which of them may be known: all that are, and few that are not."""
        missing = self._marks(hashes)
        missing &= self._unset.take(self._words(hashes))
        return np.asarray((missing == 0).nonzero()[0])


class ShingleTable:
    """Look-up from shingle to the owners that have it, and where.

    `lists`: distinct shingles of each owner, in order.
    """

    def __init__(self, lists: Sequence[NDArray[np.uint64]]) -> None:
        hashes = np.concatenate([np.empty(0, np.uint64), *lists])
        sizes = np.array([len(shingles) for shingles in lists], np.int64)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        heads = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
        self._keys, self._offsets = hashes[heads], np.append(heads, len(hashes))
        self._owner = np.repeat(np.arange(len(lists), dtype=np.int32), sizes)[order]
        place = np.arange(len(hashes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self._place = place.astype(np.int32)[order]
        self._filter = _Filter(self._keys)
        bits = max(len(self._keys).bit_length(), 1)
        self._shift = np.uint64(64 - bits)
        counts = np.bincount((self._keys >> self._shift).view(np.int64), minlength=1 << bits)
        self._buckets = np.concatenate([[0], np.cumsum(counts)])
        self._halvings = int(counts.max()).bit_length()

    def find(self, words: Words) -> Hits:
        """Every occurrence of every owner's shingles. Nearly all unknown shingles stop at the filter."""
        hashes = shingle_hashes(words)
        maybe = self._filter.passing(hashes)
        if not len(maybe):
            return NO_HITS
        sought = hashes.take(maybe)
        slots = self._lower_bounds(sought)
        known = self._keys.take(slots, mode="clip") == sought
        if not np.count_nonzero(known):
            return NO_HITS
        texts = words.texts_of(maybe)
        known &= texts >= 0
        slots = slots[known]
        counts = self._offsets[slots + 1] - self._offsets[slots]
        posting = np.arange(counts.sum()) + np.repeat(self._offsets[slots] - np.cumsum(counts) + counts, counts)
        text, word = np.repeat(texts[known], counts), np.repeat(maybe[known], counts)
        return Hits(text, word, self._owner[posting].astype(np.int64), self._place[posting].astype(np.int64))

    def _lower_bounds(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Place of the first key that is not below each hash, as `searchsorted` tells. Hashes are evenly spread, so
        their leading bits leave few keys to search among."""
        bucket = (hashes >> self._shift).view(np.int64)
        low, high = self._buckets.take(bucket), self._buckets.take(bucket + 1)
        for _ in range(self._halvings):
            undecided = low < high
            if not np.count_nonzero(undecided):
                break
            middle = (low + high) >> 1
            below = undecided & (self._keys.take(middle, mode="clip") < hashes)
            low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        return low


def tally(hits: Hits) -> Tally:
    """Count hits by (text, owner).

    A shingle counts where it is first met, and keeps the order if it stands after the one met before it in the owner's
    list too: cheaper than the longest increasing run, equal to it for an intact template, and a block moved elsewhere
    costs one.
    """
    if not len(hits.text):
        return NO_TALLY
    order = np.argsort(hits.text * (hits.owner.max() + 1) + hits.owner, kind="stable")
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


def _read_token(raw: bytes) -> tuple[int, bytes]:
    """Role of a token (bits as above), and its letters."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:  # part of a character: goes with what stands before, unless a space does
        return _BEGINS if raw[:1] == b" " else _CONTINUES, raw.strip()
    letters = "".join(filter(str.isalpha, text))
    if not letters:
        return _SILENT | _ENDS, b""
    spaceless = letters[0] >= "\u0e00"  # Thai, kana, Han ...: no spaces between words, so every token is a word
    role = _BEGINS if spaceless or not text[0].isalpha() else _CONTINUES
    return role | (0 if text[-1].isalpha() else _ENDS), letters.encode()
