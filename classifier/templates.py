"""Known templates: which signature a prompt was made with, how much of it is there, and where.

Step of the flow: shingles -> **templates** -> heads, labeler. Retrieve, then verify: a signature that shares shingles
with a prompt is a candidate, one that the vector index proposes as well needs fewer of them, and the in-order share of
its shingles decides. Cosine alone is never a match. An index is immutable; an update builds a new one and swaps the
reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from classifier.encoder import Encoded
from classifier.errors import BundleError
from classifier.shingles import SHINGLE_WORDS, Hits, Shingler, ShingleTable, Tally, Words, tally
from classifier.signatures import DO_NOT_FIT, Signature, parse_facts, signatures_of, tensors_of
from classifier.types import Tier

FORMAT_VERSION = 1
NEIGHBOURS = 8
"""Signature vectors that the vector index proposes for a window."""
NEAR_SHARE = 0.6
"""Part of its thresholds that suffices for a signature that the vector index proposes as well."""

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
    """Exact inner-product search over signature vectors: FAISS row r belongs to signature `owners[r]`."""

    def __init__(self, flat: faiss.Index, owners: NDArray[np.int64]) -> None:
        self.flat = flat
        self.owners = owners

    @classmethod
    def of(cls, signatures: Sequence[Signature], dimensions: int) -> VectorIndex:
        tensors = tensors_of(signatures, dimensions)
        flat = faiss.IndexFlatIP(dimensions)
        flat.add(tensors["vectors"])
        return cls(flat, tensors["owners"])

    def nearest(
        self, windows: NDArray[np.float32], k: int = NEIGHBOURS
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cosine and signature of the k nearest vectors of each window, [w, k], nearest first; -1 if too few."""
        # Above this many queries FAISS would multiply matrices, and then rounding depends on how many come together.
        faiss.cvar.distance_compute_blas_threshold = np.iinfo(np.int32).max
        faiss.omp_set_num_threads(
            1
        )  # queries are few; a second thread costs milliseconds where other work has its core
        similarity, rows = self.flat.search(np.ascontiguousarray(windows), k)
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

    @classmethod
    def build(cls, signatures: Sequence[Signature], shingler: Shingler, dimensions: int) -> TemplateIndex:
        """Index signatures; `dimensions` is that of the encoder's embeddings."""
        return cls(signatures, shingler, VectorIndex.of(signatures, dimensions))

    def with_signatures(self, more: Sequence[Signature]) -> TemplateIndex:
        """The index of these signatures and, after them, of more. Raises ValueError if their vectors do not fit."""
        return self.build([*self.signatures, *more], self.shingler, self.vectors.flat.d) if more else self

    def match(self, encoded: Encoded) -> Matches:
        """Match n prompts; each comes out as if it came alone."""
        words = self.shingler.words(encoded.tokens)
        hits = self._table.find(words)
        verified = self._verified(tally(hits), encoded)
        benign = self._best(verified.where(self._benign[verified.owner]))
        if len(benign.text):
            hits = _without_excused(hits, benign)
            verified = self._verified(tally(hits), encoded)
        best = self._best(verified.where(~self._benign[verified.owner]))
        return self._matches(best, benign, words, encoded)

    def _verified(self, found: Tally, encoded: Encoded) -> Tally:
        """Candidates with enough of their signature, or NEAR_SHARE of enough if the vector index proposes it too."""
        hits = found.distinct / self._min_hits[found.owner]
        coverage = found.ordered / self._sizes[found.owner] / self._min_coverage[found.owner]
        reached = np.minimum(hits, coverage)
        enough = reached >= 1
        doubtful = np.flatnonzero((reached >= NEAR_SHARE) & ~enough)
        if len(doubtful):
            enough[doubtful] = self._proposed(found.where(doubtful), encoded)
        return found.where(enough)

    def _proposed(self, doubtful: Tally, encoded: Encoded) -> NDArray[np.bool_]:
        """Whether a window of the text has the signature among its nearest neighbours, [g]."""
        texts = np.unique(doubtful.text)
        counts = np.diff(encoded.window_offsets)[texts]
        rows = np.arange(counts.sum()) + np.repeat(encoded.window_offsets[texts] - np.cumsum(counts) + counts, counts)
        near = self.vectors.nearest(encoded.windows[rows])[1]
        base = len(self.signatures) + 1
        return np.isin(doubtful.text * base + doubtful.owner, np.repeat(texts, counts)[:, None] * base + near)

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

    def _similarity(self, best: Tally, encoded: Encoded) -> NDArray[np.float32]:
        """Cosine of the nearest pair of a text's windows and its signature's vectors, [g].

        NaN for a signature without vectors.
        """
        nearest = np.full(len(best.text), np.nan, np.float32)
        for i, (text, owner) in enumerate(zip(best.text, best.owner, strict=True)):
            vectors = self.signatures[owner].vectors
            windows = encoded.windows[encoded.window_offsets[text] : encoded.window_offsets[text + 1]]
            if len(vectors):
                nearest[i] = np.einsum("wd,vd->wv", windows, vectors).max()
        return nearest

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


def _without_excused(hits: Hits, benign: Tally) -> Hits:
    """Hits less those on shingles that a prompt's verified benign signature has too, where they stand in its span."""
    chosen = np.full(hits.text.max() + 1, -1)
    chosen[benign.text] = benign.owner
    excused = hits.owner == chosen[hits.text]
    return hits.where(excused | ~np.isin(hits.word, hits.word[excused]))


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
    index = VectorIndex.of(signatures, dimensions)
    flat = faiss.read_index(str(folder / VECTORS_FILE))
    if header["signatures"] != len(rows) or flat.d != dimensions or flat.ntotal != index.flat.ntotal:
        raise ValueError(DO_NOT_FIT)
    if not np.array_equal(flat.reconstruct_n(0, flat.ntotal), index.flat.reconstruct_n(0, flat.ntotal)):
        raise ValueError(DO_NOT_FIT)
    return signatures, VectorIndex(flat, index.owners)
