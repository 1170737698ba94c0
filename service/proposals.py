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

from classifier.encoder import StaticEncoder
from classifier.errors import InputError, UsageError
from classifier.induction import FEWEST_SHINGLES, Cluster, Sampled, by_two_accounts, find_clusters
from classifier.labeler import Labeler
from classifier.shingles import Shingler, ShingleTable
from classifier.signatures import Signature
from classifier.signing import BLOCK, LEAST_SAMPLES, Family, Honest, above_noise, blocks, sign
from classifier.templates import TemplateIndex
from classifier.types import Tier
from service.prompts import Prompts
from service.report_words import counted, percent
from service.skeleton import skeleton_of
from service.template_checks import collisions, match_counts

MOST_SAMPLES = 500
"""More are no better, and are likely a whole log rather than the prompts of one campaign."""
LEAST_SHARE = 0.05
"""Part of the samples that a wording must have: an analyst's file holds few, and rarer ones are payloads that recur."""
MOST_ORDINARY = 0.01
"""Part of ordinary prompts at which a signature is refused."""
LEAST_FOUND = 0.5
"""Part of its own samples that a signature must find."""


@dataclass(frozen=True)
class Proposal:
    """A signature, and what the analyst confirms it by.

    Attributes:
        n_samples, n_accounts: prompts that have the wording, and who sent them.
        found: share of them that match it, beside all other signatures.
        known_as: family that most of the others match, if any do.
        ordinary: share of ordinary prompts that match it.
        skeleton: the wording with its slots as …, from one of the samples. For the analyst's eyes; never stored.
    """

    signature: Signature
    n_samples: int
    n_accounts: int
    found: float
    known_as: str | None
    ordinary: float
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
    clusters = _clusters(sampled, _common(sampled, honest, shingler), least, accounts)
    if not clusters:
        raise InputError(_nothing_shared(samples, sampled, least, accounts))
    wordings = _signed(family, clusters, sampled, samples, encoder)
    if family.tier is Tier.BENIGN:
        _refuse_excuses(wordings, labeler.templates.signatures)
    else:
        wordings = _raised(wordings, honest, shingler)
    index = labeler.templates.with_signatures([wording.signature for wording in wordings])
    counts = match_counts(index, ordinary.normalised, encoder)[-len(wordings) :]
    shares = (counts / max(len(ordinary), 1)).tolist()
    if family.tier is not Tier.BENIGN:  # an application is part of ordinary traffic
        _refuse_ordinary(wordings, shares, len(ordinary))
    proposals = _described(wordings, shares, samples, accounts, index, labeler)
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


def _clusters(sampled: Sampled, common: NDArray[np.uint64], least: int, accounts: NDArray[np.int64]) -> list[Cluster]:
    """Wordings that prompts of at least two accounts have."""
    found = find_clusters(sampled, common, least, accounts)
    return [cluster for cluster in found if len(np.unique(accounts[cluster.members])) > 1]


def _signed(
    family: Family, clusters: Sequence[Cluster], sampled: Sampled, samples: Prompts, encoder: StaticEncoder
) -> list[_Wording]:
    return [
        _Wording(cluster, sign(family, number, cluster, sampled, samples.texts, encoder))
        for number, cluster in enumerate(clusters)
    ]


def _raised(wordings: Sequence[_Wording], honest: Honest, shingler: Shingler) -> list[_Wording]:
    """The same, their thresholds above what any ordinary prompt holds."""
    signatures = [wording.signature for wording in wordings]
    everyone = np.ones((len(signatures), len(honest.names)), np.bool_)
    raised = above_noise(signatures, honest, everyone, shingler)
    return [_Wording(old.cluster, signature) for old, signature in zip(wordings, raised, strict=True)]


# --- what the analyst sees --------------------------------------------------------------------------------------------


def _described(
    wordings: Sequence[_Wording],
    shares: Sequence[float],
    samples: Prompts,
    accounts: NDArray[np.int64],
    index: TemplateIndex,
    labeler: Labeler,
) -> list[Proposal]:
    matched = _matched_by(index, samples.normalised, labeler.encoder)
    proposals = []
    for number, (wording, share) in enumerate(zip(wordings, shares, strict=True), len(labeler.templates.signatures)):
        members = np.flatnonzero(wording.cluster.members)
        others = Counter(index.signatures[i].facts.family for i in matched[members].tolist() if i not in (number, -1))
        proposals.append(
            Proposal(
                signature=wording.signature,
                n_samples=len(members),
                n_accounts=len(np.unique(accounts[members])),
                found=float((matched[members] == number).mean()),
                known_as=others.most_common(1)[0][0] if others else None,
                ordinary=share,
                skeleton=skeleton_of(wording.signature.shingles, [samples.texts[i] for i in members], labeler),
            )
        )
    return proposals


def _matched_by(index: TemplateIndex, normalised: Sequence[str], encoder: StaticEncoder) -> NDArray[np.int64]:
    """Signature that each text matches best, the benign one if no other, -1 if none, [n]."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(normalised), BLOCK):
        matches = index.match(encoder.encode(normalised[start : start + BLOCK]))
        found.append(np.where(matches.index >= 0, matches.index, matches.benign).astype(np.int64))
    return np.concatenate(found)


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
    common = _clusters(sampled, np.empty(0, np.uint64), least, accounts)
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


def _refuse_ordinary(wordings: Sequence[_Wording], shares: Sequence[float], n: int) -> None:
    for wording, share in zip(wordings, shares, strict=True):
        if share >= MOST_ORDINARY:
            raise InputError(
                f"Signature {wording.signature.facts.id} would match {percent(share)} of {n:,} ordinary prompts: "
                f"expected less than {percent(MOST_ORDINARY)}; give samples whose wording is their own."
            )


def _refuse_excuses(wordings: Sequence[_Wording], known: Sequence[Signature]) -> None:
    """An application's signature that holds a known template would excuse it."""
    extraction = [signature for signature in known if signature.facts.tier is not Tier.BENIGN]
    for wording in wordings:
        clashes = collisions([wording.signature], extraction)
        if clashes:
            raise InputError(
                f"Signature {wording.signature.facts.id} shares {percent(clashes[0].share)} of its words with "
                f"{clashes[0].other.id}, which it would excuse: expected an application of its own wording."
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
