"""Known templates: which signature a prompt was made with, how much of it is there, and where.

Step of the flow: shingles -> **templates** -> heads, labeler. Retrieve, then verify: a signature that shares shingles
with a prompt is a candidate, one whose vectors are near as well needs fewer of them, and the in-order share of its
shingles decides. Cosine alone is never a match. An index is immutable; an update builds a new one and swaps the
reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from classifier.encoder import Encoded
from classifier.errors import BundleError
from classifier.shingles import NO_TALLY, SHINGLE_WORDS, Hits, Shingler, ShingleTable, Tally, Words, tally
from classifier.signatures import DO_NOT_FIT, Signature, parse_facts, signatures_of, tensors_of
from classifier.types import Tier

FORMAT_VERSION = 1
NEIGHBOURS = 8
"""Vectors that a search of the vector index names, unless it is asked for more or fewer."""
MOST_FLAT = 50_000
"""Vectors up to which every one is searched."""
PROBES = 64
_TRAINING_ROWS = 40  # for each list of the inverted file; FAISS warns of fewer than 39
NEAR_SHARE, NEAR_COSINE = 0.6, 0.5
"""Part of its thresholds that suffices for a signature one of whose vectors is so near a window of the text. Only the
few candidates are compared, so that what other signatures there are changes nothing."""
VERY_NEAR_SHARE, VERY_NEAR_COSINE = 0.5, 0.65
"""The same for an extraction signature that is nearer still: what is left of a template whose words were dropped. An
application's is not excused so easily."""
FEWEST_MATCHED = 2
"""Shingles that a match has at the least: cosine alone is none."""

_CELLS = 4  # cells for each hit in which hits are counted: one in five shares its own
_MOST_PAIRS = 1 << 14  # pairs of vectors compared at a time: 32 MiB of them
_ROUNDING = 1e-6  # far above that of a float, far below one hit

VECTORS_FILE, FACTS_FILE, SHINGLES_FILE = "templates.faiss", "templates.jsonl", "signatures.safetensors"


@dataclass(frozen=True)
class Matches:
    """What each of n prompts matched, all arrays [n]. Tokens are counted from the prompt's first.

    `index`: best extraction signature (exclusive before public, then what explains most), -1 if none; `similarity`:
    cosine of its nearest vector and window, NaN if none; `coverage`: in-order share of its shingles, NaN if none;
    `token_start`, `token_end`: from its first to past its last shingle. `benign`, `benign_start`, `benign_end`: the
    same of the best benign signature.
    """

    index: NDArray[np.int32]
    similarity: NDArray[np.float32]
    coverage: NDArray[np.float32]
    token_start: NDArray[np.int32]
    token_end: NDArray[np.int32]
    benign: NDArray[np.int32]
    benign_start: NDArray[np.int32]
    benign_end: NDArray[np.int32]


class VectorIndex:
    """Signature vectors, and inner-product search over them.

    `flat`: as stored, FAISS row r belongs to signature `owners[r]`; `rows` f32 [v, d] is a view of it, of which
    signature i has `rows[offsets[i] : offsets[i + 1]]`.
    """

    def __init__(self, signatures: Sequence[Signature], dimensions: int) -> None:
        tensors = tensors_of(signatures, dimensions)
        self.flat = faiss.IndexFlatIP(dimensions)
        self.flat.add(tensors["vectors"])
        self.owners: NDArray[np.int64] = tensors["owners"]
        self.offsets = np.searchsorted(self.owners, np.arange(len(signatures) + 1))
        stored = faiss.rev_swig_ptr(self.flat.get_xb(), self.flat.ntotal * dimensions) if self.flat.ntotal else ()
        self.rows = np.asarray(stored, np.float32).reshape(-1, dimensions)

    @cached_property
    def searched(self) -> faiss.Index:
        """What is searched: every vector up to MOST_FLAT of them; above, an inverted file, which looks into the PROBES
        nearest of its lists. Built alike each time."""
        if self.flat.ntotal <= MOST_FLAT:
            return self.flat
        faiss.omp_set_num_threads(1)
        lists = 1 << (self.flat.ntotal.bit_length() // 2 + 1)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(self.flat.d), self.flat.d, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.nprobe = 0, PROBES
        index.train(self.rows[:: max(self.flat.ntotal // (lists * _TRAINING_ROWS), 1)])
        index.add(self.rows)
        return index

    def nearest(
        self, windows: NDArray[np.float32], k: int = NEIGHBOURS
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cosine and signature of the k nearest vectors of each window, [w, k], nearest first; -1 if too few."""
        faiss.omp_set_num_threads(1)  # another thread costs milliseconds where other work has its core
        similarity, rows = self.searched.search(np.ascontiguousarray(windows), k)
        return similarity, np.append(self.owners, -1)[rows]


class TemplateIndex:
    """Signatures ready to be matched; never changes. `vectors` are those of the signatures, `shingler` reads texts."""

    def __init__(self, signatures: Sequence[Signature], shingler: Shingler, vectors: VectorIndex) -> None:
        self.signatures = tuple(signatures)
        self.vectors = vectors
        self.shingler = shingler
        facts = [signature.facts for signature in self.signatures]
        self._table = ShingleTable([signature.shingles for signature in self.signatures])
        self._sizes = np.array([max(len(signature.shingles), 1) for signature in self.signatures], np.int64)
        self._min_hits = np.array([fact.min_hits for fact in facts], np.int64)
        self._min_coverage = np.array([fact.min_coverage for fact in facts], np.float64)
        self._benign = np.array([fact.tier is Tier.BENIGN for fact in facts], np.bool_)
        self._exclusive = np.array([fact.tier is Tier.EXCLUSIVE for fact in facts], np.bool_)
        self._least_share = np.where(self._benign, NEAR_SHARE, VERY_NEAR_SHARE)
        enough = self._least_share * np.maximum(self._min_hits, self._min_coverage * self._sizes)
        self._least_hits = np.maximum(np.ceil(enough - _ROUNDING), FEWEST_MATCHED).astype(np.int64)

    @classmethod
    def build(cls, signatures: Sequence[Signature], shingler: Shingler, dimensions: int) -> TemplateIndex:
        """Index signatures; `dimensions` is that of the encoder's embeddings."""
        return cls(signatures, shingler, VectorIndex(signatures, dimensions))

    def with_signatures(self, more: Sequence[Signature]) -> TemplateIndex:
        """The index of these signatures and, after them, of more. Raises ValueError if their vectors do not fit."""
        return self.build([*self.signatures, *more], self.shingler, self.vectors.flat.d) if more else self

    def match(self, encoded: Encoded) -> Matches:
        """Match n prompts; each comes out as if it came alone."""
        return self.match_words(self.shingler.words(encoded.tokens), encoded)

    def match_words(self, words: Words, encoded: Encoded) -> Matches:
        """The same, their words given."""
        hits = self._enough(self._table.find(words))
        if not len(hits.text):
            return _no_matches(len(encoded.tokens))
        is_benign = self._benign[hits.owner]
        excusing, accusing = hits.where(is_benign), hits.where(~is_benign)
        benign = self._best_verified(excusing, encoded)
        if len(benign.text):
            accusing = _without_excused(accusing, excusing, benign)
        best = self._best_verified(accusing, encoded)
        return self._matches(best, benign, words, encoded)

    def _enough(self, hits: Hits) -> Hits:
        """Hits less nearly all of those whose signature has too few in their text to be a candidate.

        Counted without sorting, so that now and then two signatures are counted as one, which spares a few too many.
        """
        if not len(hits.text):
            return hits
        cells = (hits.text * len(self.signatures) + hits.owner) % (_CELLS * len(hits.text) + 1)
        return hits.where(np.bincount(cells)[cells] >= self._least_hits[hits.owner])

    def _best_verified(self, hits: Hits, encoded: Encoded) -> Tally:
        verified = self._verified(tally(hits), encoded) if len(hits.text) else NO_TALLY
        return self._best(verified) if len(verified.text) else NO_TALLY

    def _verified(self, found: Tally, encoded: Encoded) -> Tally:
        """Candidates with enough of their signature, or with part of enough where a window of the text is near it."""
        hits = found.distinct / self._min_hits[found.owner]
        coverage = found.ordered / self._sizes[found.owner] / self._min_coverage[found.owner]
        reached = np.minimum(hits, coverage)
        enough = reached >= 1
        some = (reached >= self._least_share[found.owner]) & (found.distinct >= FEWEST_MATCHED)
        doubtful = (some & ~enough).nonzero()[0]
        if len(doubtful):
            needed = np.where(reached[doubtful] >= NEAR_SHARE, NEAR_COSINE, VERY_NEAR_COSINE)
            enough[doubtful] = self._similarity(found.where(doubtful), encoded) >= needed  # never so for NaN
        return found.where(enough)

    def _best(self, verified: Tally) -> Tally:
        """One match a text: exclusive before public, then by coverage times ordered shingles, then the first.

        Coverage alone would prefer a short text that several families share to the long, slightly edited one around it.
        """
        weight = verified.ordered**2 / self._sizes[verified.owner]
        order = np.lexsort((verified.owner, -weight, ~self._exclusive[verified.owner], verified.text))
        return verified.where(order[np.unique(verified.text[order], return_index=True)[1]])

    def _matches(self, best: Tally, benign: Tally, words: Words, encoded: Encoded) -> Matches:
        n, offsets = len(encoded.tokens), encoded.tokens.offsets
        span, benign_span = _spans(best, words, offsets), _spans(benign, words, offsets)
        return Matches(
            index=_scatter(best, best.owner, n, -1, np.int32),
            similarity=_scatter(best, self._similarity(best, encoded), n, np.nan, np.float32),
            coverage=_scatter(best, best.ordered / self._sizes[best.owner], n, np.nan, np.float32),
            token_start=_scatter(best, span[0], n, 0, np.int32),
            token_end=_scatter(best, span[1], n, 0, np.int32),
            benign=_scatter(benign, benign.owner, n, -1, np.int32),
            benign_start=_scatter(benign, benign_span[0], n, 0, np.int32),
            benign_end=_scatter(benign, benign_span[1], n, 0, np.int32),
        )

    def _similarity(self, found: Tally, encoded: Encoded) -> NDArray[np.float32]:
        """Cosine of the nearest pair of a text's windows and its signature's vectors, [g].

        NaN for a signature without vectors.
        """
        similarity = np.full(len(found.text), np.nan, np.float32)
        window, windows = _ranges(encoded.window_offsets, found.text)
        vector, vectors = _ranges(self.vectors.offsets, found.owner)
        pairs = windows * vectors
        for rows in _parts(pairs, _MOST_PAIRS):
            group = np.repeat(rows, pairs[rows])
            number = np.arange(len(group)) - np.repeat(np.cumsum(pairs[rows]) - pairs[rows], pairs[rows])
            of_text = encoded.windows[window[group] + number // vectors[group]]
            of_signature = self.vectors.rows[vector[group] + number % vectors[group]]
            cosine = np.einsum("pd,pd->p", of_text, of_signature)
            np.fmax.at(similarity, group, cosine)
        return similarity

    def save(self, folder: Path) -> None:
        """Write `templates.faiss`, `templates.jsonl` (facts) and `signatures.safetensors` into a folder.

        No prompt text in any.
        """
        header = {"version": FORMAT_VERSION, "shingle_words": SHINGLE_WORDS, "signatures": len(self.signatures)}
        rows = [header, *(asdict(signature.facts) for signature in self.signatures)]
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        (folder / FACTS_FILE).write_text(lines, encoding="utf-8")
        save_file(tensors_of(self.signatures, self.vectors.flat.d), folder / SHINGLES_FILE)
        faiss.write_index(self.vectors.flat, str(folder / VECTORS_FILE))

    @classmethod
    def load(cls, folder: Path, shingler: Shingler, dimensions: int) -> TemplateIndex:
        """Read what `save` wrote.

        BundleError if files are missing, malformed, of another version, or do not fit together.
        """
        try:
            signatures, vectors = _read(folder, dimensions)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            what = f"{type(error).__name__}: {error}"
            raise BundleError(
                f"templates: {folder} holds no readable template index ({what}); build it again"
            ) from error
        return cls(signatures, shingler, vectors)


@lru_cache(256)
def _no_matches(n: int) -> Matches:
    """What n prompts come to that share too little with any signature, as most do. Read-only."""
    none, nowhere = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    unknown = np.full(n, np.nan, np.float32)
    for shared in (none, nowhere, unknown):
        shared.setflags(write=False)
    return Matches(none, unknown, unknown, nowhere, nowhere, none, nowhere, nowhere)


def _without_excused(accusing: Hits, excusing: Hits, benign: Tally) -> Hits:
    """Hits of extraction signatures less those on shingles that a prompt's verified benign signature has too, where
    they stand in its span."""
    chosen = np.full(excusing.text.max() + 1, -1)
    chosen[benign.text] = benign.owner
    excused = excusing.where(excusing.owner == chosen[excusing.text])
    return accusing.where(~np.isin(accusing.word, excused.word))


def _ranges(offsets: NDArray[np.int64], which: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and number of rows of some of the runs that offsets delimit."""
    return offsets[which], offsets[which + 1] - offsets[which]


def _parts(sizes: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
    """Numbers of all items, cut into runs of about `most` in size, a larger item by itself."""
    number = np.cumsum(sizes) // most
    return np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(number)) + 1)


def _spans(found: Tally, words: Words, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and past-last token of each match, from the first token of its text."""
    heads = offsets[found.text]
    return words.first[found.first] - heads, words.last[found.last + SHINGLE_WORDS - 1] + 1 - heads


def _scatter(rows: Tally, values: NDArray[Any], n: int, default: float, dtype: type[np.generic]) -> NDArray[Any]:
    """[n] array with `values` at the rows' texts, `default` elsewhere."""
    column = np.full(n, default, dtype)
    column[rows.text] = values
    return column


def _read(folder: Path, dimensions: int) -> tuple[list[Signature], VectorIndex]:
    header, *rows = [json.loads(line) for line in (folder / FACTS_FILE).read_text(encoding="utf-8").splitlines()]
    if (header["version"], header["shingle_words"]) != (FORMAT_VERSION, SHINGLE_WORDS):
        raise ValueError(f"version {header['version']}, shingles of {header['shingle_words']} words")
    signatures = signatures_of([parse_facts(row) for row in rows], load_file(folder / SHINGLES_FILE))
    vectors = VectorIndex(signatures, dimensions)
    stored = faiss.read_index(str(folder / VECTORS_FILE))
    if header["signatures"] != len(rows) or stored.d != dimensions or stored.ntotal != vectors.flat.ntotal:
        raise ValueError(DO_NOT_FIT)
    if not np.array_equal(stored.reconstruct_n(0, stored.ntotal), vectors.rows):
        raise ValueError(DO_NOT_FIT)
    return signatures, vectors
