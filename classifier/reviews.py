"""Reviews: what analysts' conclusions say of baselines and families. Pure rules, and the lines they travel in.

Beside the flow: the store of a service -> lines -> **reviews** -> a bundle revised (training). A line tells of a
reviewed account what it sent in counts: no prompt, and no verdict.

Accounts come to review by their verdicts, so they certify nothing, and what they say may only make flags and reviews
fewer: a dismissal widens what is allowed, a confirmation speaks against that. No analyst counts for more than all
others together, so that one alone changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifier.certification import FAMILY_PART, expected_intent, intent_baselines
from classifier.evidence import Baselines
from classifier.types import TARGETS

CONFIRMED, DISMISSED, WATCHED = STATES = ("confirmed", "dismissed", "watched")
LEAST_DISMISSED = 3
"""Accounts dismissed, as far as they count, that it takes to have a family flag no more."""


@dataclass(frozen=True)
class Reviewed:
    """An account and what was last concluded of it, by whom. `matches`: its units that an exclusive family matched, of
    `n_units`; `intent`: mean of its `n_intent` units of intent, a value a target."""

    account_id: str
    state: str
    author: str
    n_units: int
    matches: Mapping[str, int]
    n_intent: int
    intent: Sequence[float]


@dataclass(frozen=True)
class Revision:
    """What reviews change: families that flag no more, and the baselines."""

    made_public: Sequence[str]
    baselines: Baselines


def revise(reviewed: Sequence[Reviewed], baselines: Baselines) -> Revision:
    """What reviews of accounts change in a bundle of these baselines."""
    names = sorted({name for one in reviewed for name in one.matches})
    public = [name for name in names if _is_public(name, reviewed, baselines.m1)]
    return Revision(public, replace(baselines, m2=_allowed([r for r in reviewed if r.state == DISMISSED], baselines)))


def _is_public(family: str, reviewed: Sequence[Reviewed], m1: float) -> bool:
    """Whether honest people send it too: of the accounts that it alone puts above m1 / FAMILY_PART, enough are
    dismissed, and more than are confirmed."""
    loud = [r for r in reviewed if r.matches.get(family, 0) > m1 / FAMILY_PART * r.n_units]
    dismissed = _counted([r.author for r in loud if r.state == DISMISSED])
    return dismissed >= LEAST_DISMISSED and dismissed > sum(r.state == CONFIRMED for r in loud)


def _counted(authors: Sequence[str]) -> int:
    """How many reviews count, by their authors: of one, no more than of all others together."""
    most = max((authors.count(name) for name in set(authors)), default=0)
    return min(len(authors), 2 * (len(authors) - most))


def _allowed(dismissed: Sequence[Reviewed], baselines: Baselines) -> tuple[float, ...]:
    """m2 as it is, or as two analysts have it: the second largest of what each would allow."""
    asked = np.array([baselines.m2, *(_asked([r for r in dismissed if r.author == a]) for a in _authors(dismissed))])
    second = np.sort(asked[1:], axis=0)[-2] if len(asked) > 2 else asked[0]
    return tuple(np.maximum(asked[0], second).tolist())


def _authors(reviewed: Sequence[Reviewed]) -> list[str]:
    """Those whose accounts have units of intent, without which `_asked` would not be about conduct."""
    return sorted({r.author for r in reviewed if r.n_intent > 0})


def _asked(dismissed: Sequence[Reviewed]) -> tuple[float, ...]:
    """What the accounts that one analyst dismissed would have allowed; nothing if they have too few units."""
    means: NDArray[np.float64] = np.array([r.intent for r in dismissed]).reshape(-1, len(TARGETS))
    expected = expected_intent(means, np.array([r.n_intent for r in dismissed]), [DISMISSED] * len(dismissed))
    return intent_baselines(expected) if not np.isnan(expected).all() else (0.0,) * len(TARGETS)


# --- lines ------------------------------------------------------------------------------------------------------------


def to_line(reviewed: Reviewed) -> str:
    """As it travels: a JSON object, of which `intent` is by target."""
    row = asdict(reviewed) | {"intent": dict(zip(TARGETS, reviewed.intent, strict=True))}
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def from_line(line: str) -> Reviewed:
    """What `to_line` wrote. Raises LookupError, TypeError, ValueError or AttributeError for anything else."""
    row: dict[str, Any] = json.loads(line)
    found = Reviewed(**{**row, "intent": tuple(float(row["intent"][name]) for name in TARGETS)})
    numbers = [found.n_units, found.n_intent, *found.matches.values()]
    if not all(isinstance(text, str) and text for text in (found.account_id, found.author, *found.matches)):
        raise ValueError("an account, author or family is no text")
    if found.state not in STATES or not all(0 <= x <= 1 for x in found.intent):
        raise ValueError("its state or intent is none")
    if any(type(n) is not int or n < 0 for n in numbers) or any(n > found.n_units for n in found.matches.values()):
        raise ValueError("its numbers are no counts")
    return found
