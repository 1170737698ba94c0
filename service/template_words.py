"""Signatures in words and as JSON: what `probewatch templates` prints. Pure functions; no prompt text but skeletons."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifier.catalogue import Origin
from classifier.signatures import Facts, Signature
from classifier.types import Tier
from service.admission import InOrdinary
from service.exchanges import Joining
from service.proposals import Proposal
from service.recertification import LEAST_PROMPTS, Recertified
from service.report_words import counted, percent, title_of, visible
from service.template_checks import Collision, Unfound

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline

_WIDTH = 80


@dataclass(frozen=True)
class Listed:
    """A signature of the index. `origin`: None for one of the bundle."""

    signature: Signature
    origin: Origin | None


def listed_of(pipeline: Pipeline) -> list[Listed]:
    """All signatures, those of the bundle first, in the order in which they were added."""
    local = pipeline.catalogue.entries if pipeline.catalogue is not None else ()
    origins = {entry.signature.facts.id: entry.origin for entry in local}
    return [Listed(signature, origins.get(signature.facts.id)) for signature in pipeline.labeler.templates.signatures]


def as_json(listed: Listed) -> dict[str, Any]:
    """What is known of a signature; `since` and what follows it are null for one of the bundle."""
    facts, origin = listed.signature.facts, listed.origin
    return {
        "id": facts.id,
        "family": facts.family,
        "technique": facts.technique,
        "capability": facts.target,
        "tier": facts.tier.value,
        "from": _source(listed),
        "minimum_hits": facts.min_hits,
        "minimum_coverage": facts.min_coverage,
        "shingles": len(listed.signature.shingles),
        "vectors": len(listed.signature.vectors),
        **(asdict(origin) if origin is not None else dict.fromkeys(Origin.__dataclass_fields__)),
    }


def list_lines(listed: Sequence[Listed]) -> Iterator[str]:
    """One line a signature."""
    width = max((len(one.signature.facts.id) for one in listed), default=0)
    for one in listed:
        facts = one.signature.facts
        yield f"{facts.id:<{width}}  {facts.tier:<9}  {_source(one):<9}  {_aim(facts)}".rstrip()
    local = sum(one.origin is not None for one in listed)
    yield f"{counted(len(listed), 'signature')}: {len(listed) - local:,} of the bundle, {local:,} of the catalogue."


def show_lines(listed: Listed) -> Iterator[str]:
    """All that is known of one."""
    facts, origin = listed.signature.facts, listed.origin
    yield f"signature {facts.id} of the {_source(listed)}"
    yield from _facts_lines(listed.signature)
    yield _row("vectors", f"{len(listed.signature.vectors):,}")
    if origin is not None:
        yield _row("since", visible(origin.since))
        yield _row("made from", f"{counted(origin.n_samples, 'sample')} of {counted(origin.n_accounts, 'account')}")
        if facts.tier is Tier.EXCLUSIVE:
            yield _row("certified on", counted(origin.n_certified, "ordinary account"))
        yield _row("note", visible(origin.note, len(origin.note)) if origin.note else "none")


def proposal_lines(proposal: Proposal, n_samples: int) -> Iterator[str]:
    """What an analyst confirms a new signature by."""
    yield f"signature {proposal.signature.facts.id}"
    if proposal.asked is not proposal.signature.facts.tier:
        yield _row("asked for", f"{proposal.asked.value}; but ordinary prompts hold too much of it")
    yield from _facts_lines(proposal.signature)
    yield _row("samples", f"{proposal.n_samples:,} of {n_samples:,}, of {counted(proposal.n_accounts, 'account')}")
    known = f"; {percent(proposal.known)} match known ones, mostly {proposal.known_as}" if proposal.known else ""
    yield _row("found afterwards", f"{percent(proposal.found)} of these samples{known}")
    yield from _ordinary_rows(proposal.ordinary)
    yield from textwrap.wrap(
        proposal.skeleton, _WIDTH, initial_indent="  wording             ", subsequent_indent=" " * 22
    )


def joining_lines(joining: Joining) -> Iterator[str]:
    """What an analyst confirms a signature of another laboratory by."""
    shared = joining.shared
    yield f"signature {shared.signature.facts.id}"
    yield from _facts_lines(shared.signature)
    yield _row("vectors", f"{len(shared.signature.vectors):,}")
    yield _row("made from", f"{counted(shared.n_samples, 'sample')} of {counted(shared.n_accounts, 'account')}")
    yield from _ordinary_rows(joining.ordinary)


def certified_lines(certified: Recertified) -> Iterator[str]:
    """What it may do from now on, and how much that is worth."""
    judged = counted(certified.n_accounts, "ordinary account")
    matched = f"{certified.n_matched:,} of {counted(certified.n_prompts, 'distinct prompt')}"
    said = (
        f"Certified on {judged} of at least {LEAST_PROMPTS} distinct prompts that had no part in it: none is above the "
        f"baseline, {matched} match. So up to {percent(certified.epsilon, up=True)} of all such accounts may yet be "
        "above it (95 %), and fdr_bound will rest on that: more ordinary accounts lower it. What is sent from the "
        "approval on may flag; who sent it before is listed for review as linked."
    )
    yield from textwrap.wrap(said, _WIDTH)


@dataclass(frozen=True)
class Checked:
    """What `templates check` finds. `counts` [signatures]: how many of `n_ordinary` prompts match each best."""

    signatures: Sequence[Signature]
    unfound: Sequence[Unfound]
    shared: Sequence[Collision]
    alike: Sequence[Collision]
    counts: NDArray[np.int64]
    n_ordinary: int


def check_lines(checked: Checked) -> Iterator[str]:
    """That no id is there twice, or the index would not have loaded; which signatures do not find themselves, which
    families are hard to tell apart, and what matches ordinary prompts."""
    n, families = len(checked.signatures), len({signature.facts.family for signature in checked.signatures})
    yield f"{counted(n, 'signature')} of {families:,} families, no id twice."
    yield f"{n - len(checked.unfound):,} of them find themselves, or one of their family, in a text of their shingles:"
    for one in checked.unfound:
        instead = f"named {one.instead.id} ({one.instead.tier})" if one.instead is not None else "not found at all"
        yield f"  {one.facts.id} ({one.facts.tier}): {instead}"
    yield f"{counted(len(checked.alike), 'pair')} of different families, not both benign, have nearly the same vectors:"
    yield from _pair_lines(checked.alike)
    yield f"{counted(len(checked.shared), 'pair')} of different families share over half of the smaller one's shingles:"
    yield from _pair_lines(checked.shared)
    yield from ordinary_lines(checked.signatures, checked.counts, checked.n_ordinary)


def check_json(checked: Checked) -> dict[str, Any]:
    """The same."""
    matched = [
        {"id": signature.facts.id, "tier": signature.facts.tier.value, "n": int(n)}
        for signature, n in zip(checked.signatures, checked.counts, strict=True)
        if n
    ]
    return {
        "signatures": len(checked.signatures),
        "unfound": [
            {"id": one.facts.id, "named": one.instead.id if one.instead is not None else None}
            for one in checked.unfound
        ],
        "alike": [_pair_json(pair) for pair in checked.alike],
        "shared": [_pair_json(pair) for pair in checked.shared],
        "ordinary_prompts": checked.n_ordinary,
        "matched": matched,
    }


def _pair_lines(pairs: Sequence[Collision]) -> Iterator[str]:
    for pair in pairs:
        yield f"  {pair.one.id} ({pair.one.tier}), {pair.other.id} ({pair.other.tier}): {percent(pair.share)}"


def _pair_json(pair: Collision) -> dict[str, Any]:
    return {"one": pair.one.id, "other": pair.other.id, "share": pair.share}


def ordinary_lines(signatures: Sequence[Signature], counts: NDArray[np.int64], n: int) -> Iterator[str]:
    """How often ordinary traffic of n prompts matched each signature, most often first."""
    yield f"Of {counted(n, 'ordinary prompt')}:"
    for number in np.argsort(-counts, kind="stable").tolist():
        if counts[number]:
            facts = signatures[number].facts
            yield f"  {percent(counts[number] / n)} match {facts.id} ({facts.tier})"
    extraction = sum(
        int(count)
        for signature, count in zip(signatures, counts, strict=True)
        if signature.facts.tier is not Tier.BENIGN
    )
    yield f"  {percent(extraction / max(n, 1))} match an extraction signature."


def _ordinary_rows(ordinary: InOrdinary) -> Iterator[str]:
    looked_at = f"{counted(ordinary.n_prompts, 'prompt')} of {counted(ordinary.n_accounts, 'account')}"
    yield _row("ordinary traffic", f"{percent(ordinary.share)} of {looked_at} match it")
    yield _row("worst account", f"{percent(ordinary.worst)} of its prompts match it")


def _facts_lines(signature: Signature) -> Iterator[str]:
    facts = signature.facts
    yield _row("tier", facts.tier.value)
    yield _row("technique", title_of(facts.technique) if facts.technique is not None else "none")
    yield _row("aims at", title_of(facts.target) if facts.target is not None else "what the payload asks for")
    yield _row("constant", f"{counted(len(signature.shingles), 'run')} of three words")
    yield _row("matches at", f"{facts.min_hits} of them, and {percent(facts.min_coverage)} in order")


def _row(name: str, value: str) -> str:
    return f"  {name:<20}{value}"


def _source(listed: Listed) -> str:
    return "bundle" if listed.origin is None else "catalogue"


def _aim(facts: Facts) -> str:
    named = [title_of(name) for name in (facts.technique, facts.target) if name is not None]
    return ", ".join(named)
