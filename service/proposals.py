"""From an analyst's prompts of a new campaign to signatures that may be added to a catalogue, or why not.

    prompts -> induction -> signing -> **proposals** (checked against ordinary traffic) -> catalogue

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
from classifier.signing import LEAST_SAMPLES, Family, Honest, above_noise, blocks, constant_members, sign
from classifier.templates import TemplateIndex
from classifier.types import Tier
from service.prompts import Prompts
from service.report_words import counted, percent
from service.skeleton import skeleton_of
from service.template_checks import MOST_SHARED, best_matches, excused

MOST_SAMPLES = 500
"""More are no better, and are likely a whole log rather than the prompts of one campaign."""
LEAST_SHARE = 0.05
"""Part of the samples that a wording must have: an analyst's file holds few, and rarer ones are payloads that recur."""
MOST_ORDINARY = 0.01
"""Part of ordinary prompts at which a signature is refused."""
LEAST_FOUND = 0.5
"""Part of its own samples that a signature must find."""


@dataclass(frozen=True)
class InOrdinary:
    """How often ordinary prompts match a signature.

    Attributes:
        n_prompts, n_accounts: how many were looked at, and of whom.
        n_matched: how many of them match.
        worst: the largest share that matches of one account's.
    """

    n_prompts: int
    n_accounts: int
    n_matched: int
    worst: float

    @property
    def share(self) -> float:
        return self.n_matched / max(self.n_prompts, 1)


@dataclass(frozen=True)
class Proposal:
    """A signature, and what the analyst confirms it by.

    Attributes:
        n_samples, n_accounts: prompts that have the wording, and who sent them.
        found: share of them that match it, beside all other signatures.
        known_as: family that most of the others match, if any do.
        ordinary: how ordinary prompts match it.
        asked: the tier that was asked for; the signature's is public where ordinary prompts hold too much of it.
        skeleton: the wording with its slots as …, from one of the samples. For the analyst's eyes; never stored.
    """

    signature: Signature
    n_samples: int
    n_accounts: int
    found: float
    known_as: str | None
    ordinary: InOrdinary
    asked: Tier
    skeleton: str


@dataclass(frozen=True)
class _Wording:
    """A cluster of the samples, and its signature."""

    cluster: Cluster
    signature: Signature


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
    least = max(LEAST_SAMPLES, ceil(LEAST_SHARE * len(samples)))
    clusters = find_clusters(sampled, _common(sampled, honest, shingler), least, accounts)
    if not clusters:
        raise InputError(_nothing_shared(samples, sampled, least, accounts))
    wordings = _signed(family, clusters, sampled, samples, labeler)
    if family.tier is Tier.BENIGN:
        _refuse_excuses(wordings, labeler.templates.signatures)
    else:
        wordings = _raised(wordings, honest, shingler)
    index = labeler.templates.with_signatures([wording.signature for wording in wordings])
    found = _in_ordinary(ordinary, index, labeler)
    if family.tier is not Tier.BENIGN:  # an application is part of ordinary traffic
        _refuse_ordinary(wordings, found)
    proposals = _described(wordings, found, samples, accounts, index, labeler, family.tier)
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
) -> list[_Wording]:
    encoder, shingler = labeler.encoder, labeler.templates.shingler
    tokens, accounts = encoder.tokenizer.encode(samples.normalised), samples.account_numbers()
    wordings = []
    for number, cluster in enumerate(clusters):
        embedded = constant_members(cluster, tokens, accounts, encoder, shingler)
        wordings.append(_Wording(cluster, sign(family, number, cluster, sampled, embedded, encoder)))
    return wordings


def _raised(wordings: Sequence[_Wording], honest: Honest, shingler: Shingler) -> list[_Wording]:
    """The same, their thresholds above what any ordinary prompt holds."""
    signatures = [wording.signature for wording in wordings]
    everyone = np.ones((len(signatures), len(honest.names)), np.bool_)
    raised = above_noise(signatures, honest, everyone, shingler)
    return [_Wording(old.cluster, signature) for old, signature in zip(wordings, raised, strict=True)]


# --- what the analyst sees --------------------------------------------------------------------------------------------


def _in_ordinary(ordinary: Prompts, index: TemplateIndex, labeler: Labeler) -> list[InOrdinary]:
    """Of each signature that the index has beyond the labeler's."""
    best = best_matches(index, ordinary.normalised, labeler.encoder)
    accounts = ordinary.account_numbers()
    sent = np.bincount(accounts)
    found = []
    for number in range(len(labeler.templates.signatures), len(index.signatures)):
        matched = (best == number).any(axis=0)
        shares = np.bincount(accounts, matched, len(sent)) / sent
        found.append(InOrdinary(len(ordinary), len(sent), int(matched.sum()), float(shares.max(initial=0))))
    return found


def _described(
    wordings: Sequence[_Wording],
    in_ordinary: Sequence[InOrdinary],
    samples: Prompts,
    accounts: NDArray[np.int64],
    index: TemplateIndex,
    labeler: Labeler,
    asked: Tier,
) -> list[Proposal]:
    extraction, benign = best_matches(index, samples.normalised, labeler.encoder)
    matched = np.where(extraction >= 0, extraction, benign)
    proposals = []
    for number, (wording, found) in enumerate(
        zip(wordings, in_ordinary, strict=True), len(labeler.templates.signatures)
    ):
        members = np.flatnonzero(wording.cluster.members)
        others = Counter(index.signatures[i].facts.family for i in matched[members].tolist() if i not in (number, -1))
        proposals.append(
            Proposal(
                signature=wording.signature,
                n_samples=len(members),
                n_accounts=len(np.unique(accounts[members])),
                found=float((matched[members] == number).mean()),
                known_as=others.most_common(1)[0][0] if others else None,
                ordinary=found,
                asked=asked,
                skeleton=skeleton_of(wording.signature.shingles, [samples.texts[i] for i in members], labeler),
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


def _refuse_ordinary(wordings: Sequence[_Wording], in_ordinary: Sequence[InOrdinary]) -> None:
    for wording, found in zip(wordings, in_ordinary, strict=True):
        facts = wording.signature.facts
        if facts.tier is Tier.EXCLUSIVE and found.n_matched:
            raise InputError(
                f"Signature {facts.id} would match {found.n_matched:,} of {found.n_prompts:,} ordinary prompts, "
                f"{percent(found.worst)} of those of one account: expected none of an exclusive one; make it public."
            )
        if found.share >= MOST_ORDINARY:
            raise InputError(
                f"Signature {facts.id} would match {percent(found.share)} of {found.n_prompts:,} ordinary prompts: "
                f"expected less than {percent(MOST_ORDINARY)}; give samples whose wording is their own."
            )


def _refuse_excuses(wordings: Sequence[_Wording], known: Sequence[Signature]) -> None:
    """What an application's signature leaves of a known template must still be a match."""
    for wording in wordings:
        clashes = excused(wording.signature, known)
        if clashes:
            worst = clashes[0]
            raise InputError(
                f"Signature {wording.signature.facts.id} would excuse {percent(worst.share)} of {worst.known.id}, of "
                f"which {counted(worst.left, 'run')} of three words would be left: expected at most "
                f"{percent(MOST_SHARED)}, and at least the {worst.known.min_hits:,} that a match takes; give prompts "
                "of an application of its own wording."
            )


def _refuse_unfound(proposals: Sequence[Proposal]) -> None:
    for proposal in proposals:
        if proposal.found < LEAST_FOUND:
            known = f" (most others match {proposal.known_as} already)" if proposal.known_as is not None else ""
            raise InputError(
                f"Signature {proposal.signature.facts.id} would be found in {percent(proposal.found)} of its own "
                f"{proposal.n_samples} samples{known}: expected at least {percent(LEAST_FOUND)}; give more samples, or "
                "none of what is known."
            )
