"""Whether a wording may flag: an exclusive signature against ordinary accounts that had no part in making it.

    proposals, exchanges -> **recertification** -> catalogue

Thresholds are raised above what ordinary prompts hold (`admission`), so that none of those prompts matches says
nothing. Hence the accounts of an operator's ordinary traffic are parted: one half tunes, and on the other m1 is
certified, as the bundle's own was (DESIGN.md section 6). It takes

- LEAST_ACCOUNTS accounts of LEAST_PROMPTS distinct prompts, of which none may match at more than m1 / FAMILY_PART, nor
  at more than m1 together with what is known. With 20 of 20 within, 14 % of all such accounts may still be above; the
  number is kept with the signature, and every run's `fdr_bound` rests on it;
- as many distinct prompts that their share of matches is at most m1 with 95 % confidence: 2,995 if none matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifier.certification import FAMILY_PART, certify, clopper_pearson_upper
from classifier.errors import InputError
from classifier.labeler import Labeler
from classifier.signatures import Signature
from classifier.types import Tier
from service.prompts import Prompts
from service.report_words import counted, percent
from service.template_checks import best_matches

LEAST_PROMPTS = 100
"""Distinct prompts of an account that is judged by itself: of one that matches in one of 20, they show it (99 %)."""
LEAST_ACCOUNTS = 20
"""Fewer certify less than 14 %, of which no promise about a population can be made."""
_PUBLIC = "give more ordinary traffic with --against, or take it as a signature that does not flag, with --tier public"


@dataclass(frozen=True)
class Recertified:
    """What held-out ordinary accounts say of signatures that are to flag.

    Attributes:
        n_accounts: accounts of at least LEAST_PROMPTS, none of which is above what is allowed.
        n_prompts, n_matched: distinct prompts of all accounts, and how many of them match.
        epsilon: at most this share of all such accounts is above the baseline (95 %).
    """

    n_accounts: int
    n_prompts: int
    n_matched: int
    epsilon: float


def recertify(signatures: Sequence[Signature], held_out: Prompts, labeler: Labeler, m1: float) -> Recertified:
    """Certify m1 for new signatures that are to flag, beside those of the labeler.

    Raises:
        InputError: one is public by now, since ordinary prompts hold too much of it; an account is above what is
            allowed; or the accounts or their prompts are too few to certify anything.
    """
    for signature in signatures:
        _refuse_lowered(signature)
    sent = held_out.distinct()
    index = labeler.templates.with_signatures(signatures)
    matched = best_matches(index, sent.normalised, labeler.encoder)[0]
    exclusive = np.array([one.facts.tier is Tier.EXCLUSIVE for one in index.signatures] + [False])  # -1: no match
    accounts = sent.account_numbers()
    n_sent = np.bincount(accounts)
    ours = np.bincount(accounts, matched >= len(labeler.templates.signatures), len(n_sent))
    all_that_flag = np.bincount(accounts, exclusive[matched], len(n_sent))
    judged = n_sent >= LEAST_PROMPTS
    above = judged & (ours > 0) & ((ours > m1 / FAMILY_PART * n_sent) | (all_that_flag > m1 * n_sent))
    names = ", ".join(sorted({signature.facts.family for signature in signatures}))
    if above.any():
        worst = int(np.argmax(np.where(above, ours / n_sent, 0)))
        raise InputError(
            f"{names} is too common to flag: {int(above.sum()):,} of {counted(int(judged.sum()), 'ordinary account')} "
            f"of at least {LEAST_PROMPTS} distinct prompts matched too often, the worst with {int(ours[worst]):,} of "
            f"{int(n_sent[worst]):,}: expected at most {percent(m1 / FAMILY_PART)} of each one's; give samples whose "
            "wording is their own, or --tier public."
        )
    _refuse_too_few(names, int(judged.sum()), len(sent), int(ours.sum()), m1)
    stratum = certify(names, [False] * int(judged.sum()))
    return Recertified(stratum.n, len(sent), int(ours.sum()), stratum.epsilon)


def _refuse_lowered(signature: Signature) -> None:
    if signature.facts.tier is not Tier.EXCLUSIVE:
        raise InputError(
            f"Signature {signature.facts.id} may not flag: ordinary prompts hold nearly all of its "
            f"{len(signature.shingles):,} runs of three words; give samples whose wording is their own, or --tier "
            "public."
        )


def _refuse_too_few(names: str, n_accounts: int, n_prompts: int, n_matched: int, m1: float) -> None:
    """Half of the accounts that are given are held out, so it takes twice of what is expected."""
    upper = clopper_pearson_upper(n_matched, n_prompts)
    if n_accounts >= LEAST_ACCOUNTS and upper <= m1:
        return
    at_most = f"matches at most {percent(upper, up=True)} of such (95 %), expected {percent(m1)}"
    raise InputError(
        f"{names} cannot be certified to flag: {counted(n_accounts, 'ordinary account')} of at least {LEAST_PROMPTS} "
        f"distinct prompts are held out, expected {LEAST_ACCOUNTS}; with {n_matched:,} matches in their "
        f"{n_prompts:,} distinct prompts it {at_most}. It takes {2 * LEAST_ACCOUNTS} such accounts and some "
        f"{2 * prompts_needed(n_matched, m1):,} distinct prompts, half of each to make it beside; {_PUBLIC}."
    )


def prompts_needed(n_matched: int, m1: float) -> int:
    """Least number of prompts of which so many may match for a share of at most m1 with 95 % confidence."""
    low, high = 1, 2
    while clopper_pearson_upper(n_matched, high) > m1:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if clopper_pearson_upper(n_matched, middle) <= m1 else (middle + 1, high)
    return high
