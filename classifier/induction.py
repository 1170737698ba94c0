"""Induction: from prompts made with unknown templates to what is constant in them.

Beside the flow: samples -> shingles -> **induction** -> signatures -> `templates`. Used by training for the shipped
index and by an analyst for a new campaign. Only what many samples share and honest text does not is kept, so what a
single sample says is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from classifier.shingles import Words, shingle_hashes

FEWEST_SHINGLES = 4
"""A signature needs this many: 4 shingles of 3 words are 6 words in a row."""
SHARED_BY = 0.6
"""Part of a cluster's samples that must share a shingle.

Above one half, so that two wordings cannot both count as constant.
"""
MEMBER_SHARE = 0.5
"""Part of a cluster's constant shingles that makes a sample a member."""
AMPLE_SHINGLES = 24
"""A cluster with as many constant shingles needs no finer ones for its members: it survives cuts and edits."""
NEW_SHARE = 0.5
"""Part of a cluster's constant shingles that no cluster before has.

Else it is the same wording with a frequent slot value.
"""
MOST_CLUSTERS = 64
SMALL_GROUP, MOST_OTHERS = 0.25, 1.5
"""A cluster with less than this part of the samples, which on average hold this many more such, is a part drawn from a
pool.
"""
_ROUNDS = 4  # of growing a cluster; members settle in two or three


@dataclass(frozen=True)
class Sampled:
    """Distinct shingles of n samples.

    Rows (sample, shingle, place), sorted by sample and place; place counts words in the batch.
    """

    sample: NDArray[np.int64]
    shingle: NDArray[np.uint64]
    place: NDArray[np.int64]
    n: int

    @classmethod
    def of(cls, words: Words) -> Sampled:
        """First occurrence of each shingle in each text."""
        hashes = shingle_hashes(words)
        place = np.arange(len(hashes))
        sample = words.texts_of(place)
        order = np.lexsort((place, hashes, sample))
        sample, hashes, place = sample[order], hashes[order], place[order]
        first = np.append(True, (sample[1:] != sample[:-1]) | (hashes[1:] != hashes[:-1]))[: len(sample)]
        chosen = np.sort(place[first & (sample >= 0)])
        return cls(words.texts_of(chosen), shingle_hashes(words)[chosen], chosen, len(words.offsets) - 1)

    def where(self, chosen: NDArray[np.bool_]) -> Sampled:
        return Sampled(self.sample[chosen], self.shingle[chosen], self.place[chosen], self.n)


@dataclass(frozen=True)
class Cluster:
    """Samples of one wording: `shingles` that they share, u64 in typical order, and `members`, bool [n].

    `pooled`: instead, all shingles that recur in samples put together from a pool of parts, of which each member has
    some.
    """

    shingles: NDArray[np.uint64]
    members: NDArray[np.bool_]
    pooled: bool


def find_clusters(
    sampled: Sampled, common: NDArray[np.uint64], least: int, accounts: NDArray[np.int64] | None = None
) -> list[Cluster]:
    """Wordings among samples of one family, the most frequent first.

    `common`: shingles of honest text, never kept. `least`: samples that must share a shingle. `accounts`: who sent each
    sample, int [n]; a shingle then needs members of at least two. Starts from the shingle that most samples share,
    takes what their majority shares, and goes on with the samples left; members of a cluster with few shingles stay, so
    that finer wordings under a short common part are found too. What then is in no cluster may be made of parts drawn
    from a pool: all recurring shingles are its last cluster.
    """
    rows = sampled.where(~np.isin(sampled.shingle, common))
    shingles, code = np.unique(rows.shingle, return_inverse=True)
    found = _Search(rows, code, len(shingles), least, accounts).groups()
    return [Cluster(shingles[_in_order(rows, code, g.fixed, g.members)], g.members, g.pooled) for g in found]


@dataclass(frozen=True)
class _Group:
    """A cluster by codes: `fixed` bool [shingles], `members` bool [n]."""

    fixed: NDArray[np.bool_]
    members: NDArray[np.bool_]
    pooled: bool


class _Search:
    """The clusters of one family, one after the other.

    Which shingles are spent as seeds, which samples are done with.
    """

    def __init__(
        self, rows: Sampled, code: NDArray[np.int64], size: int, least: int, accounts: NDArray[np.int64] | None
    ) -> None:
        self.rows, self.code, self.size, self.least, self.accounts = rows, code, size, least, accounts
        self.open = np.ones(rows.n, np.bool_)
        self.allowed = self._by_two(self.open)
        self.new = self.allowed.copy()

    def groups(self) -> list[_Group]:
        """Wordings, then the pool, if there is one."""
        found = list[_Group]()
        while len(found) < MOST_CLUSTERS and (group := self._next()) is not None:
            found.append(group)
            self.new &= ~group.fixed
            if group.fixed.sum() >= AMPLE_SHINGLES:
                self.open &= ~group.members
        wordings = self._without_parts(found)
        rest = ~np.logical_or.reduce([np.zeros(self.rows.n, np.bool_), *(group.members for group in wordings)])
        pool, members = self._pool(rest)
        told = [_Group(group.fixed & self._by_two(group.members), group.members, False) for group in wordings]
        told = [group for group in told if group.fixed.sum() >= FEWEST_SHINGLES]
        if pool.sum() < FEWEST_SHINGLES or members.sum() < self.least:
            return told
        return [*told, _Group(pool, members, True)]

    def _pool(self, rest: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Recurring shingles of the rest, each said by two accounts of those who hold enough of them; and who does."""
        pool = self.allowed & (self._shared_by(rest) >= self.least)
        while True:
            members = rest & (self._held(pool) >= FEWEST_SHINGLES)
            kept = pool & self._by_two(members)
            if kept.sum() == pool.sum():
                return pool, members
            pool = kept

    def _without_parts(self, groups: Sequence[_Group]) -> list[_Group]:
        """The groups that are wordings.

        Parts drawn from a pool are small groups whose holders hold several other small groups as well.
        """
        holders = [self._held(group.fixed) >= MEMBER_SHARE * group.fixed.sum() for group in groups]
        small = [held.sum() < SMALL_GROUP * self.rows.n for held in holders]
        times = np.sum([np.zeros(self.rows.n, np.int64), *compress(holders, small)], axis=0)
        parts = [
            is_small and times[held].mean() - 1 >= MOST_OTHERS for held, is_small in zip(holders, small, strict=True)
        ]
        return [group for group, is_part in zip(groups, parts, strict=True) if not is_part]

    def _next(self) -> _Group | None:
        seeds = self.new.copy()
        while len(seeds):
            shared = self._shared_by(self.open) * seeds
            seed = int(shared.argmax())
            if shared[seed] < self.least:
                break
            seeds[seed] = False
            group = self._grow(seed)
            new = (group.fixed & self.new).sum()
            if new >= max(FEWEST_SHINGLES, NEW_SHARE * group.fixed.sum()) and group.members.sum() >= self.least:
                return group
            self.new[seed] = False
        return None

    def _grow(self, seed: int) -> _Group:
        """The cluster around a shingle: what its members share, and who shares what is new in that, in turns."""
        members = np.zeros(self.rows.n, np.bool_)
        members[self.rows.sample[self.code == seed]] = True
        members &= self.open
        for _ in range(_ROUNDS):
            fixed = self.allowed & (self._shared_by(members) >= max(self.least, SHARED_BY * members.sum()))
            new = fixed & self.new
            members = self.open & (self._held(new) >= max(MEMBER_SHARE * new.sum(), 1))
        return _Group(fixed, members, False)

    def _shared_by(self, members: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the samples have each shingle."""
        return np.bincount(self.code[members[self.rows.sample]], minlength=self.size)

    def _by_two(self, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether members of at least two accounts have each shingle; all have if nobody told who sent what."""
        if self.accounts is None:
            return np.ones(self.size, np.bool_)
        chosen = members[self.rows.sample]
        return by_two_accounts(self.code[chosen], self.accounts[self.rows.sample[chosen]], self.size)

    def _held(self, fixed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the shingles each sample has."""
        return np.bincount(self.rows.sample[fixed[self.code]], minlength=self.rows.n)


def _in_order(
    rows: Sampled, code: NDArray[np.int64], fixed: NDArray[np.bool_], members: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Codes of the constant shingles by their median rank among the constant shingles of each member (payloads do not
    shift ranks).
    """
    chosen = fixed[code] & members[rows.sample]
    sample, code = rows.sample[chosen], code[chosen]
    heads = np.flatnonzero(np.append(True, sample[1:] != sample[:-1]))
    rank = np.arange(len(sample)) - np.repeat(heads, np.diff(np.append(heads, len(sample))))
    order = np.lexsort((rank, code))
    codes, first, counts = np.unique(code[order], return_index=True, return_counts=True)
    return codes[np.lexsort((codes, rank[order][first + counts // 2]))]


def by_two_accounts(code: NDArray[np.int64], account: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Whether samples of at least two accounts have the shingle, [size]."""
    pairs = np.unique(np.stack([code, account]), axis=1)
    return np.bincount(pairs[0], minlength=size) >= 2
