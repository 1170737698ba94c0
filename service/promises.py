"""What a run promises, and what that rests on: the part of run.json that a `Certificate` answers for.

Used by `findings`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from classifier.certification import Certificate

_BOUND = (
    "alpha + sum of epsilon * registered / flags, at most 1; who is of no stratum of known number counts at the "
    "largest epsilon; adds: what a stratum alone adds, where its number is unknown if all were of it"
)


def promised(held: Certificate, n_flagged: int, population: int) -> dict[str, Any]:
    """The bound on false flags, its strata, and the baselines that they were seen to keep to."""
    return {
        "fdr_bound": held.bound(n_flagged, population),
        "fdr_bound_is": _BOUND,
        "fdr_strata": [
            asdict(s) | {"registered": held.registered.get(s.stratum), "adds": held.adds(s, n_flagged, population)}
            for s in held.strata
        ],
        "baselines": asdict(held.baselines),
    }
