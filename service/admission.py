"""Whether signatures may join those that are known: raised above ordinary traffic, or refused with the figure.

    proposals, exchanges -> **admission** -> catalogue

The same for signatures made here from samples and for those that another laboratory made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifier.errors import InputError
from classifier.labeler import Labeler
from classifier.shingles import Shingler
from classifier.signatures import Signature
from classifier.signing import Honest, above_noise
from classifier.templates import TemplateIndex
from classifier.types import Tier
from service.prompts import Prompts
from service.report_words import counted, percent
from service.template_checks import MOST_SHARED, best_matches, excused

MOST_ORDINARY = 0.01
"""Part of ordinary prompts at which a signature is refused."""


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
class Admitted:
    """Signatures that may join. `index`: the known ones and, after them, these; `ordinary`: how ordinary prompts match
    each of these."""

    index: TemplateIndex
    ordinary: list[InOrdinary]


def admit(signatures: Sequence[Signature], ordinary: Prompts, honest: Honest, labeler: Labeler) -> Admitted:
    """Check new signatures beside the labeler's own. `honest`: the tokens of `ordinary`.

    Extraction signatures come out with thresholds above what any ordinary prompt holds.

    Raises:
        InputError: one would match ordinary traffic, or a benign one would excuse a known template.
    """
    raised = _raised(signatures, honest, labeler.templates.shingler)
    known = [*labeler.templates.signatures, *raised]
    refuse_excuses([signature for signature in raised if signature.facts.tier is Tier.BENIGN], known)
    index = labeler.templates.with_signatures(raised)
    found = in_ordinary(ordinary, index, labeler)
    _refuse_ordinary(raised, found)
    return Admitted(index, found)


def _raised(signatures: Sequence[Signature], honest: Honest, shingler: Shingler) -> list[Signature]:
    """The same, thresholds of extraction signatures above what any ordinary prompt holds."""
    counted_groups = np.ones((len(signatures), len(honest.names)), np.bool_)
    counted_groups[[signature.facts.tier is Tier.BENIGN for signature in signatures]] = False
    return above_noise(signatures, honest, counted_groups, shingler)


def in_ordinary(ordinary: Prompts, index: TemplateIndex, labeler: Labeler) -> list[InOrdinary]:
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


def refuse_excuses(applications: Sequence[Signature], known: Sequence[Signature]) -> None:
    """What an application's signature leaves of a known template must still be a match."""
    for application in applications:
        clashes = excused(application, known)
        if clashes:
            worst = clashes[0]
            raise InputError(
                f"Signature {application.facts.id} would excuse {percent(worst.share)} of {worst.known.id}, of which "
                f"{counted(worst.left, 'run')} of three words would be left: expected at most "
                f"{percent(MOST_SHARED)}, and at least the {worst.known.min_hits:,} that a match takes; give prompts "
                "of an application of its own wording."
            )


def _refuse_ordinary(signatures: Sequence[Signature], in_ordinary: Sequence[InOrdinary]) -> None:
    """An application is part of ordinary traffic; others must hardly match it."""
    for signature, found in zip(signatures, in_ordinary, strict=True):
        facts = signature.facts
        if facts.tier is Tier.EXCLUSIVE and found.n_matched:
            raise InputError(
                f"Signature {facts.id} would match {found.n_matched:,} of {found.n_prompts:,} ordinary prompts, "
                f"{percent(found.worst)} of those of one account: expected none of an exclusive one; make it public."
            )
        if facts.tier is not Tier.BENIGN and found.share >= MOST_ORDINARY:
            raise InputError(
                f"Signature {facts.id} would match {percent(found.share)} of {found.n_prompts:,} ordinary prompts: "
                f"expected less than {percent(MOST_ORDINARY)}; give samples whose wording is their own."
            )
