"""From an analyst's prompts of a new campaign to signatures that may be added to a catalogue, or why not.

    prompts -> induction -> signing -> **proposals** (admitted by `admission`) -> catalogue

What is refused is refused with one sentence that holds counts and names and no prompt text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from classifier.errors import InputError, UsageError
from classifier.induction import FEWEST_SHINGLES, Cluster, Sampled, by_two_accounts, find_clusters
from classifier.labeler import Labeler
from classifier.shingles import Shingler, ShingleTable
from classifier.signatures import Signature
from classifier.signing import LEAST_SAMPLES, Family, Honest, blocks, constant_members, sign
from classifier.types import Tier
from service.admission import Admitted, InOrdinary, admit
from service.prompts import Prompts
from service.report_words import counted, percent
from service.skeleton import skeleton_of
from service.template_checks import best_matches

MOST_SAMPLES = 500
"""More are no better, and are likely a whole log rather than the prompts of one campaign."""
FEWEST_SHARING = 3
"""Samples that must share a run of words, of at least two accounts: of ten samples of three wordings, some have three.
"""
LEAST_SHARE = 0.05
"""Part of the samples that a wording must have: an analyst's file holds few, and rarer ones are payloads that recur."""
LEAST_FOUND = 0.5
"""Part of its own samples that a signature must find, of those that no known one matches better."""


@dataclass(frozen=True)
class Proposal:
    """A signature, and what the analyst confirms it by.

    Attributes:
        n_samples, n_accounts: prompts that have the wording, and who sent them.
        found: share of them that match it, or another proposal, beside all known signatures.
        known: share of them that match a known signature better.
        known_as: known family that most of these match, if any do.
        ordinary: how ordinary prompts match it.
        asked: the tier that was asked for; the signature's is public where ordinary prompts hold too much of it.
        skeleton: the wording with its slots as …, from one of the samples. For the analyst's eyes; never stored.
    """

    signature: Signature
    n_samples: int
    n_accounts: int
    found: float
    known: float
    known_as: str | None
    ordinary: InOrdinary
    asked: Tier
    skeleton: str


def propose(samples: Prompts, family: Family, ordinary: Prompts, labeler: Labeler) -> list[Proposal]:
    """Signatures of the wordings that prompts share, the most frequent first.

    Args:
        samples: distinct prompts of one campaign, or of one application if the tier is benign.
        ordinary: prompts of others. What two of their accounts say is no part of a signature.
        labeler: of the bundle and catalogue that the signatures are to be added to.

    Raises:
        UsageError: the family is known already.
        InputError: too few or too many prompts, a single account, nothing in common, or a signature that would match
            ordinary traffic, excuse a known template, or not find its own samples.
    """
    _refuse_known(family, labeler.templates.signatures)
    accounts = samples.account_numbers()
    _check_size(samples, len(set(samples.accounts)))
    encoder, shingler = labeler.encoder, labeler.templates.shingler
    sampled = Sampled.of(shingler.words(encoder.tokenizer.encode(samples.normalised)))
    honest = ordinary.as_honest(encoder)
    least = max(FEWEST_SHARING, ceil(LEAST_SHARE * len(samples)))
    clusters = find_clusters(sampled, _common(sampled, honest, shingler), least, accounts)
    if not clusters:
        raise InputError(_nothing_shared(samples, sampled, least, accounts))
    admitted = admit(_signed(family, clusters, sampled, samples, labeler), ordinary, honest, labeler)
    proposals = _described(clusters, admitted, samples, accounts, labeler, family.tier)
    _refuse_unfound(proposals)
    return proposals


# --- what the samples share -------------------------------------------------------------------------------------------


def _common(sampled: Sampled, honest: Honest, shingler: Shingler) -> NDArray[np.uint64]:
    """Shingles of the samples that prompts of at least two ordinary accounts hold: figures of speech, no template."""
    candidates = np.unique(sampled.shingle)
    table, pairs = ShingleTable([candidates]), [np.empty((2, 0), np.int64)]
    for start, block in blocks(honest.tokens):
        hits = table.find(shingler.words(block))
        pairs.append(np.unique(np.stack([hits.place, honest.group[start + hits.text]]), axis=1))
    places, groups = np.concatenate(pairs, axis=1)
    return candidates[by_two_accounts(places, groups, len(candidates))]


def _signed(
    family: Family, clusters: Sequence[Cluster], sampled: Sampled, samples: Prompts, labeler: Labeler
) -> list[Signature]:
    encoder, shingler = labeler.encoder, labeler.templates.shingler
    tokens, accounts = encoder.tokenizer.encode(samples.normalised), samples.account_numbers()
    signatures = []
    for number, cluster in enumerate(clusters):
        embedded = constant_members(cluster, tokens, accounts, encoder, shingler)
        signatures.append(sign(family, number, cluster, sampled, embedded, encoder))
    return signatures


# --- what the analyst sees --------------------------------------------------------------------------------------------


def _described(
    clusters: Sequence[Cluster],
    admitted: Admitted,
    samples: Prompts,
    accounts: NDArray[np.int64],
    labeler: Labeler,
    asked: Tier,
) -> list[Proposal]:
    index, first = admitted.index, len(labeler.templates.signatures)
    extraction, benign = best_matches(index, samples.normalised, labeler.encoder)
    matched = np.where(extraction >= 0, extraction, benign)
    proposals = []
    for number, (cluster, found) in enumerate(zip(clusters, admitted.ordinary, strict=True), first):
        signature, members = index.signatures[number], np.flatnonzero(cluster.members)
        others = Counter(index.signatures[i].facts.family for i in matched[members].tolist() if 0 <= i < first)
        proposals.append(
            Proposal(
                signature=signature,
                n_samples=len(members),
                n_accounts=len(np.unique(accounts[members])),
                found=float((matched[members] >= first).mean()),
                known=others.total() / len(members),
                known_as=others.most_common(1)[0][0] if others else None,
                ordinary=found,
                asked=asked,
                skeleton=skeleton_of(signature.shingles, [samples.texts[i] for i in members], labeler),
            )
        )
    return proposals


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refuse_known(family: Family, signatures: Sequence[Signature]) -> None:
    if family.name in {signature.facts.family for signature in signatures}:
        raise UsageError(f"--family got {family.name}: a family of that name is known already, choose another name.")


def _check_size(samples: Prompts, n_accounts: int) -> None:
    n = len(samples)
    if not LEAST_SAMPLES <= n <= MOST_SAMPLES:
        rejected = f" (and {counted(samples.n_rejected, 'rejected record')})" if samples.n_rejected else ""
        found = counted(n, "distinct prompt") if n <= MOST_SAMPLES else f"more than {MOST_SAMPLES} distinct prompts"
        raise InputError(
            f"The samples are {found}{rejected}: expected {LEAST_SAMPLES} to {MOST_SAMPLES} of one campaign."
        )
    if n_accounts < 2:
        raise InputError(
            f"The {n} samples are all of one account: expected prompts of at least two, or what one customer says "
            "could pass for the template."
        )


def _nothing_shared(samples: Prompts, sampled: Sampled, least: int, accounts: NDArray[np.int64]) -> str:
    """What was found instead."""
    n_accounts = counted(len(set(samples.accounts)), "account")
    common = find_clusters(sampled, np.empty(0, np.uint64), least, accounts)
    if common:
        shared = counted(len(common[0].shingles), "run")
        return (
            f"The {len(samples)} samples of {n_accounts} share {shared} of three words, but prompts of "
            "at least two ordinary accounts hold these too: give samples whose wording is their own."
        )
    shingles, code = np.unique(sampled.shingle, return_inverse=True)
    by_two = by_two_accounts(code, accounts[sampled.sample], len(shingles))
    most = int((np.bincount(code, minlength=len(shingles)) * by_two).max(initial=0))
    found = f"found the commonest run in {most}" if most else "found none that two accounts share"
    return (
        f"The {len(samples)} samples of {n_accounts} have nothing in common: expected a wording of {FEWEST_SHINGLES} "
        f"runs of three words that at least {least} prompts of two accounts have, {found}; give samples of one "
        "campaign."
    )


def _refuse_unfound(proposals: Sequence[Proposal]) -> None:
    for proposal in proposals:
        least = LEAST_FOUND * (1 - proposal.known)
        if proposal.found < least or not proposal.found:
            known = f" (most others match {proposal.known_as} already)" if proposal.known_as is not None else ""
            raise InputError(
                f"Signature {proposal.signature.facts.id} would be found in {percent(proposal.found)} of its own "
                f"{proposal.n_samples} samples{known}: expected {percent(LEAST_FOUND)} of those that no known one "
                "matches; give more samples, or none of what is known."
            )
