"""Wordings that prompts of many accounts share: where to look for a campaign that no signature knows.

Beside the flow: labels, texts -> shingles -> **discovery** -> findings, of which an analyst makes signatures. Of every
account the same few distinct prompts count, so neither volume nor chatter decides; what is found carries no guarantee
on errors. `induction` finds wordings in prompts of which most have one; here most have none, and cost grows with what
is shared, not with what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier.induction import AMPLE_SHINGLES, FEWEST_SHINGLES, MEMBER_SHARE, SHARED_BY

LEAST_ACCOUNTS = 5
"""Accounts that must share a wording: one person's accounts, and a prompt that is passed on, reach 2 or 3."""
MOST_HOLDERS = 256
"""Accounts whose prompts tell what is constant around a shingle; more say the same."""
MOST_SEEDS = 200_000
"""Shingles from which a wording is grown, those of most accounts first: bounds the time."""
REPEATS = 2
"""Distinct prompts of one wording with which an account counts in full: a phrase is said once, a template is used."""
LEAST_INTENT = 0.01
"""Extraction probability below which no finding is thought more harmless: keeps what the classifier misreads in the
list."""
MOST_GROWTH = 2.0
"""Growth is counted within this factor either way: it separates equals, and does not make a campaign of a news item."""
OVERLAP = 0.5
"""Part of a finding's prompts that better ones hold, above which it is a part of them."""
_ROUNDS = 4  # of growing a wording; members settle in two or three

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Sightings:
    """Distinct (prompt, shingle) pairs, sorted by prompt, [r]; `account` of each of p prompts, [p]."""

    prompt: Ints
    shingle: Hashes
    account: Ints


@dataclass(frozen=True)
class Shared:
    """A wording: `shingles` that are constant in it, ascending, and the numbers of the `prompts` that have it."""

    shingles: Hashes
    prompts: Ints


@dataclass(frozen=True)
class Context:
    """What is known of each of p prompts besides its wording, arrays [p].

    `account`; `unit`: the same for prompts of one text; `p_extraction`; `us`: microseconds since 1970 of its first and
    last use, [p, 2].
    """

    account: Ints
    unit: Hashes
    p_extraction: NDArray[np.float32]
    us: NDArray[np.int64]


@dataclass(frozen=True)
class Facets:
    """What speaks for a campaign behind a wording; `strength` ranks.

    Attributes:
        n_accounts, n_prompts: who sent it, and their distinct prompts.
        users: accounts, each counted by how many of REPEATS distinct prompts it has.
        intent: extraction probability of the median account's median prompt.
        diversity: distinct texts over (account, text) pairs: 1 where every payload is another, 1 / accounts where one
            text is passed on.
        size: constant shingles, of AMPLE_SHINGLES at most, over AMPLE_SHINGLES.
        growth: accounts that used it in the last quarter of the time looked at, over those of the mean quarter before.
    """

    n_accounts: int
    n_prompts: int
    users: float
    intent: float
    diversity: float
    size: float
    growth: float

    @property
    def strength(self) -> float:
        """users x intent x size x diversity x growth, each for a reason.

        Users: what many accounts use again and again is a tool of theirs. Intent: applications and agents are shared
        and repeated too, but ask for answers to use, not to learn from. Size: an every-day phrase is short. Diversity:
        a prompt that is passed on has no payload. Growth: a campaign begins, or moves, within days.
        """
        intent = max(self.intent, LEAST_INTENT)
        growth = min(max(self.growth, 1 / MOST_GROWTH), MOST_GROWTH)
        return self.users * intent * self.size * self.diversity * growth


def find_shared(seen: Sightings, least_accounts: int = LEAST_ACCOUNTS) -> list[Shared]:
    """Wordings that prompts of at least so many accounts share, those with the most common shingles first.

    Starts from the shingle that most accounts hold, takes what their prompts share beside it (SHARED_BY of the
    accounts, one prompt each), and goes on with the shingles left. Prompts of a long wording are done with.
    """
    return list(_Search(seen, least_accounts).wordings())


def facets_of(found: Shared, context: Context, kept: float = 1.0) -> Facets:
    """What speaks for a wording. `kept`: share of all shingles that the sightings hold."""
    account, unit = context.account[found.prompts], context.unit[found.prompts]
    owners, owner, sent = np.unique(account, return_inverse=True, return_counts=True)
    return Facets(
        n_accounts=len(owners),
        n_prompts=len(found.prompts),
        users=float(np.minimum(sent, REPEATS).sum() / REPEATS),
        intent=float(np.median(_medians(owner, context.p_extraction[found.prompts]))),
        diversity=len(np.unique(unit)) / len(unit),
        size=min(len(found.shingles) / kept / AMPLE_SHINGLES, 1.0),
        growth=_growth(account, context.us[found.prompts], context.us),
    )


def ranked(found: list[Shared], strengths: list[float]) -> list[int]:
    """Numbers of the wordings, strongest first, without those that are parts of stronger ones."""
    order = sorted(range(len(found)), key=lambda i: (-strengths[i], int(found[i].shingles[0])))
    taken = np.zeros(max((int(one.prompts.max()) + 1 for one in found), default=0), np.bool_)
    kept = []
    for number in order:
        prompts = found[number].prompts
        if taken[prompts].mean() <= OVERLAP:
            kept.append(number)
            taken[prompts] = True
    return kept


class _Search:
    """Wordings one after the other: which shingles are spent, which prompts are done with."""

    def __init__(self, seen: Sightings, least_accounts: int) -> None:
        self._least, self._account = least_accounts, seen.account
        self._shingles, code = np.unique(seen.shingle, return_inverse=True)
        self._n_accounts = _accounts_of(code, seen.account[seen.prompt], len(self._shingles))
        shared = self._n_accounts[code] >= least_accounts
        prompt, code = seen.prompt[shared], code[shared]
        self._code, self._of_prompt = code, np.searchsorted(prompt, np.arange(len(seen.account) + 1))
        order = np.argsort(code, kind="stable")
        self._prompt, self._of_code = prompt[order], np.searchsorted(code[order], np.arange(len(self._shingles) + 1))
        self._open = np.ones(len(seen.account), np.bool_)
        self._new = np.ones(len(self._shingles), np.bool_)

    def wordings(self) -> Iterator[Shared]:
        order = np.argsort(-self._n_accounts, kind="stable")[:MOST_SEEDS]
        for seed in order[self._n_accounts[order] >= self._least].tolist():
            if not self._new[seed]:
                continue
            fixed, prompts = self._grow(seed)
            if not self._is_wording(fixed, prompts):
                self._new[seed] = False
                continue
            self._new[fixed] = False
            if len(fixed) >= AMPLE_SHINGLES:
                self._open[prompts] = False
            yield Shared(self._shingles[fixed], prompts)

    def _is_wording(self, fixed: Ints, prompts: Ints) -> bool:
        """Whether enough is constant, mostly new, and held by enough accounts."""
        new = self._new[fixed].sum()
        enough = len(np.unique(self._account[prompts])) >= self._least
        return bool(enough and new >= max(FEWEST_SHINGLES, MEMBER_SHARE * len(fixed)))

    def _grow(self, seed: int) -> tuple[Ints, Ints]:
        """What is constant around a shingle, ascending, and the prompts that hold enough of it, in turns."""
        prompts, held = self._holders(np.array([seed]))
        fixed = np.empty(0, np.int64)
        for _ in range(_ROUNDS):
            before, fixed = fixed, self._constant(prompts, held)
            new = fixed[self._new[fixed]]
            if not len(new) or np.array_equal(before, fixed):
                break
            prompts, held = self._holders(new)
            enough = held >= max(MEMBER_SHARE * len(new), 1)
            prompts, held = prompts[enough], held[enough]
        return fixed, prompts

    def _holders(self, codes: Ints) -> tuple[Ints, Ints]:
        """Open prompts that hold any of the shingles, ascending, and how many each."""
        prompts = np.concatenate([self._prompt[self._of_code[c] : self._of_code[c + 1]] for c in codes.tolist()])
        found, held = np.unique(prompts, return_counts=True)
        return found[self._open[found]], held[self._open[found]]

    def _constant(self, prompts: Ints, held: Ints) -> Ints:
        """Shingles that most of the accounts hold, ascending: of each account the prompt that holds most, of accounts
        beyond MOST_HOLDERS as many, evenly."""
        best = np.lexsort((prompts, -held, self._account[prompts]))
        account = self._account[prompts[best]]
        first = best[np.append(True, account[1:] != account[:-1])[: len(best)]]
        if len(first) < self._least:
            return np.empty(0, np.int64)
        first = first[np.linspace(0, len(first) - 1, min(len(first), MOST_HOLDERS)).astype(np.int64)]
        pieces = [self._code[self._of_prompt[p] : self._of_prompt[p + 1]] for p in prompts[first].tolist()]
        codes, counts = np.unique(np.concatenate(pieces), return_counts=True)
        return np.asarray(codes[counts >= max(self._least, SHARED_BY * len(first))])


def _accounts_of(code: Ints, account: Ints, size: int) -> Ints:
    """In how many accounts each shingle occurs, [size]."""
    width = int(account.max(initial=0)) + 1
    return np.bincount(np.unique(code * width + account) // width, minlength=size)


def _medians(owner: Ints, values: NDArray[np.float32]) -> Floats:
    """Lower median of each owner's values; owners are 0, 1, ..."""
    order = np.lexsort((values, owner))
    sizes = np.bincount(owner)
    return np.asarray(values[order][np.cumsum(sizes) - sizes + (sizes - 1) // 2], np.float64)


def _growth(account: Ints, us: NDArray[np.int64], all_us: NDArray[np.int64]) -> float:
    """Accounts with a use in the last quarter over those with one in the mean quarter before, one more in each: new
    and few is no growth. 1 where all happened at one moment."""
    begin, end = int(all_us.min()), int(all_us.max())
    if begin == end:
        return 1.0
    quarter = np.minimum((us - begin) * 4 // (end - begin), 3)
    active = [len(np.unique(account[(quarter == q).any(axis=1)])) for q in range(4)]
    return (active[3] + 1) / (sum(active[:3]) / 3 + 1)
