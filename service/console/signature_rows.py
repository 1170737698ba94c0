"""Families of the index with their facts, as pages show them. Pure. Stands before the pages of campaigns, templates."""

from __future__ import annotations

from dataclasses import dataclass

from classifier.pipeline import Pipeline


@dataclass(frozen=True)
class FamilyFacts:
    """A family of signatures. `tier` None: matched once, and not known to this bundle and catalogue. `n_fixed`:
    hashed runs of three words that are constant in it; `min_hits`: how many of them the smallest match holds."""

    family: str
    tier: str | None = None
    technique: str | None = None
    target: str | None = None
    is_local: bool = False
    n_signatures: int = 0
    n_fixed: int = 0
    n_vectors: int = 0
    min_hits: int = 0
    min_coverage: float = 0.0


def families_of(pipeline: Pipeline) -> dict[str, FamilyFacts]:
    """All families, of the bundle and of the catalogue."""
    local = (
        {entry.signature.facts.id for entry in pipeline.catalogue.entries} if pipeline.catalogue is not None else set()
    )
    found: dict[str, FamilyFacts] = {}
    for one in pipeline.labeler.templates.signatures:
        facts, before = one.facts, found.get(one.facts.family)
        found[facts.family] = FamilyFacts(
            family=facts.family,
            tier=facts.tier.value,
            technique=facts.technique,
            target=facts.target,
            is_local=facts.id in local,
            n_signatures=(before.n_signatures if before is not None else 0) + 1,
            n_fixed=(before.n_fixed if before is not None else 0) + len(one.shingles),
            n_vectors=(before.n_vectors if before is not None else 0) + len(one.vectors),
            min_hits=min(facts.min_hits, before.min_hits) if before is not None else facts.min_hits,
            min_coverage=min(facts.min_coverage, before.min_coverage) if before is not None else facts.min_coverage,
        )
    return found
