"""Shingles of the prompts that are looked at, in bounded memory: what `discovery` looks for shared wordings in.

    prompts -> **sightings** -> classifier.discovery

Figures of speech are left out, and what stands within the span of a known application.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classifier.discovery import Sightings
from classifier.induction import Sampled, by_two_accounts
from classifier.labeler import Labeler
from service.prompts import sample_ordinary

MOST_SIGHTINGS = 1 << 24
"""Shingles held in memory, 16 bytes each and some 100 while they are searched: those of 200,000 prompts of 500 bytes.
With every doubling beyond, half of them are left out, by their hash, so that a template keeps its share in every
prompt."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # golden ratio: spreads hashes before the lowest are kept


class Collector:
    """Shingles of prompts, at most MOST_SIGHTINGS: above that, those whose spread hash is low. `kept`: the share."""

    def __init__(self, labeler: Labeler) -> None:
        self._labeler, self.kept = labeler, 1.0
        self._common = _ordinary_shingles(labeler)
        self._pieces, self._size = list[tuple[NDArray[np.int64], NDArray[np.uint64]]](), 0

    def add(self, rows: NDArray[np.int64], normalised: Sequence[str], in_application: NDArray[np.bool_]) -> None:
        """Shingles of prompts, by their rows; of those in an application, what stands outside of it."""
        sampled = sampled_of(normalised, self._labeler)
        keep = ~np.isin(sampled.shingle, self._common)
        if in_application.any():
            keep &= _outside(sampled, normalised, np.flatnonzero(in_application), self._labeler)
        sampled = sampled.where(keep)
        self._keep(rows[sampled.sample], sampled.shingle)
        while self._size > MOST_SIGHTINGS:
            self.kept /= 2
            pieces, self._pieces, self._size = self._pieces, [], 0
            for row, shingle in pieces:
                self._keep(row, shingle)

    def _keep(self, row: NDArray[np.int64], shingle: NDArray[np.uint64]) -> None:
        if self.kept < 1:
            low = shingle * _SPREAD < np.uint64(int(self.kept * 2**64))
            row, shingle = row[low], shingle[low]
        self._pieces.append((row, shingle))
        self._size += len(row)

    def seen(self, account: NDArray[np.int64]) -> Sightings:
        """All that was kept. `account` of each row."""
        row = np.concatenate([np.empty(0, np.int64), *(piece[0] for piece in self._pieces)])
        shingle = np.concatenate([np.empty(0, np.uint64), *(piece[1] for piece in self._pieces)])
        order = np.argsort(row, kind="stable")
        return Sightings(row[order], shingle[order], account)


def sampled_of(normalised: Sequence[str], labeler: Labeler) -> Sampled:
    """Distinct shingles of prompts in normal form."""
    return Sampled.of(labeler.templates.shingler.words(labeler.encoder.tokenizer.encode(list(normalised))))


def _ordinary_shingles(labeler: Labeler) -> NDArray[np.uint64]:
    """What two ordinary accounts of the shipped sample say: figures of speech."""
    ordinary = sample_ordinary()
    sampled = sampled_of(ordinary.normalised, labeler)
    shingles, code = np.unique(sampled.shingle, return_inverse=True)
    return shingles[by_two_accounts(code, ordinary.account_numbers()[sampled.sample], len(shingles))]


def _outside(
    sampled: Sampled, normalised: Sequence[str], rows: NDArray[np.int64], labeler: Labeler
) -> NDArray[np.bool_]:
    """Which shingles stand outside of the application's span, [r]: all of the texts other than `rows`. Of a text whose
    application is not known here, none does."""
    matches = labeler.templates.match(labeler.encoder.encode([normalised[row] for row in rows.tolist()]))
    start, end = np.zeros(len(normalised), np.int64), np.zeros(len(normalised), np.int64)
    start[rows] = matches.benign_start
    end[rows] = np.where(matches.benign >= 0, matches.benign_end, np.iinfo(np.int32).max)
    tokens = labeler.encoder.tokenizer.encode(list(normalised))
    token = labeler.templates.shingler.words(tokens).first[sampled.place] - tokens.offsets[sampled.sample]
    return np.asarray((token < start[sampled.sample]) | (token >= end[sampled.sample]))
