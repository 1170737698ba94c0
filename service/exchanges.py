"""Signatures of another laboratory: which of an exchange file are wanted, and whether they may join the known ones.

    exchange -> **exchanges** (admitted by `admission`) -> catalogue

What a stranger made is checked as what is made here is, and for what this program would never make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from classifier.catalogue import Entry
from classifier.errors import InputError, UsageError
from classifier.exchange import SharedSignature
from classifier.induction import FEWEST_SHINGLES
from classifier.labeler import Labeler
from classifier.signatures import Signature
from classifier.signing import FEWEST_HITS
from service.admission import InOrdinary, admit
from service.prompts import Prompts
from service.report_words import percent
from service.template_checks import MOST_SHARED, collisions


@dataclass(frozen=True)
class Joining:
    """A signature that may join the known ones. `ordinary`: how ordinary prompts match it."""

    shared: SharedSignature
    ordinary: InOrdinary


def shared_of(entries: Sequence[Entry], ids: Sequence[str], folder: Path) -> list[SharedSignature]:
    """The entries of a catalogue that are to be passed on, all if no ids are given. Their notes stay at home.

    Raises:
        UsageError: there is none, or none of an id.
    """
    shared = [SharedSignature(e.signature, e.origin.n_samples, e.origin.n_accounts) for e in entries]
    if not shared:
        raise UsageError(f"catalogue {folder}: holds no signatures to export.")
    return chosen(shared, ids, f"catalogue {folder}")


def chosen(shared: Sequence[SharedSignature], ids: Sequence[str], where: str) -> list[SharedSignature]:
    """Those of the ids given, all if none are. Raises UsageError if one is not there."""
    known = {one.signature.facts.id for one in shared}
    for missing in (id for id in ids if id not in known):
        raise UsageError(f"{missing}: is no signature of {where}; leave the ids out for all {len(shared):,}.")
    return [one for one in shared if not ids or one.signature.facts.id in ids]


def joining(
    received: Sequence[SharedSignature], ids: Sequence[str], where: str, ordinary: Prompts, labeler: Labeler
) -> list[Joining]:
    """Signatures of an exchange file or STIX bundle that may join the labeler's, their thresholds raised above
    ordinary traffic.

    Raises:
        UsageError: an id that it does not hold.
        InputError: a family is known already or shares most of a known one's shingles, a signature is none that this
            program would make, has vectors of other dimensions, would match ordinary traffic, or would excuse a known
            template.
    """
    wanted = chosen(received, ids, where)
    signatures = [one.signature for one in wanted]
    for signature in signatures:
        _refuse_odd(signature, labeler.encoder.dimensions)
    _refuse_known(signatures, labeler.templates.signatures)
    admitted = admit(signatures, ordinary, ordinary.as_honest(labeler.encoder), labeler)
    raised = admitted.index.signatures[len(labeler.templates.signatures) :]
    return [
        Joining(replace(one, signature=signature), found)
        for one, signature, found in zip(wanted, raised, admitted.ordinary, strict=True)
    ]


def _refuse_odd(signature: Signature, dimensions: int) -> None:
    facts, size = signature.facts, len(signature.shingles)
    if size < FEWEST_SHINGLES or not FEWEST_HITS <= facts.min_hits <= size:
        raise InputError(
            f"Signature {facts.id} matches at {facts.min_hits:,} of {size:,} runs of three words: expected at least "
            f"{FEWEST_HITS} and no more than it has; ask whoever made it."
        )
    if len(signature.vectors) and signature.vectors.shape[1] != dimensions:
        raise InputError(
            f"Signature {facts.id} has vectors of {signature.vectors.shape[1]:,} dimensions: expected {dimensions:,}, "
            "as the encoder has that it names; ask whoever made it."
        )


def _refuse_known(signatures: Sequence[Signature], known: Sequence[Signature]) -> None:
    families = {signature.facts.family for signature in known}
    for signature in signatures:
        if signature.facts.family in families:
            raise InputError(
                f"Signature {signature.facts.id} is of a family whose name is known already: remove your own first, or "
                "give the ids of the others to import those alone."
            )
    for pair in collisions(signatures, known):
        raise InputError(
            f"Signature {pair.one.id} shares {percent(pair.share)} of its runs of three words with {pair.other.id}: "
            f"expected at most {percent(MOST_SHARED)} of the smaller one's, since what matches one may well match the "
            "other; give the ids of the others to import those alone."
        )
