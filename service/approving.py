"""From samples to entries of a catalogue, wherever the samples come from and whoever asks.

    samples, ordinary traffic -> proposals, recertification -> **approving** -> catalogue

The commands (`adding`, `exchange_cli`) and the service (`http/approvals`) both go through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from classifier.catalogue import Entry, Origin
from classifier.pipeline import Pipeline
from classifier.signatures import Signature
from classifier.signing import Family
from classifier.types import Tier
from service.prompts import Halves, Prompts, joined_prompts, read_halves, read_ordinary
from service.proposals import Proposal, propose
from service.recertification import Recertified, recertify


@dataclass(frozen=True)
class Addition:
    """What samples would add. `certified`: None where nothing is to flag."""

    proposals: Sequence[Proposal]
    certified: Recertified | None

    @property
    def signatures(self) -> list[Signature]:
        return [proposal.signature for proposal in self.proposals]

    def entries(self, since: str, note: str) -> list[Entry]:
        """As the catalogue holds them. `since`: when they were agreed upon."""
        n = self.certified.n_accounts if self.certified is not None else 0
        return [Entry(one.signature, Origin(since, note, one.n_samples, one.n_accounts, n)) for one in self.proposals]


def prepare(samples: Prompts, wanted: Family, against: Sequence[str], pipeline: Pipeline) -> Addition:
    """What samples would add beside the signatures of a pipeline. `against`: ordinary traffic.

    Raises:
        UsageError, InputError: as `propose` and `recertify`; or ordinary traffic that cannot be read.
    """
    ordinary = ordinary_for(wanted.tier, against)
    proposals = propose(samples, wanted, ordinary.tuning, pipeline.labeler)
    signatures = [proposal.signature for proposal in proposals]
    return Addition(proposals, certified_for(wanted.tier, signatures, ordinary, pipeline))


def ordinary_for(tier: Tier, against: Sequence[str]) -> Halves:
    """Ordinary prompts to check signatures of a tier on; some are held out where they are to flag."""
    return read_halves(against) if tier is Tier.EXCLUSIVE else Halves(read_ordinary(against), joined_prompts([]))


def certified_for(
    tier: Tier, signatures: Sequence[Signature], ordinary: Halves, pipeline: Pipeline
) -> Recertified | None:
    """What the held-out accounts certify of signatures; None where none is to flag."""
    asked = [signature for signature in signatures if signature.facts.tier is not Tier.BENIGN]
    if tier is not Tier.EXCLUSIVE or not asked:
        return None
    return recertify(asked, ordinary.held_out, pipeline.labeler, pipeline.baselines.m1)


def now() -> str:
    """The time, as catalogues hold it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
