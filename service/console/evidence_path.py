"""How an account's evidence grew: the e-process over its events. Pure; folds the same units that the verdict folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from classifier.evidence import Baselines
from classifier.online import Steps, empty_states, fold
from service.store.codec import Unit, count_units

MOST_POINTS = 120
_PER_LOG10 = log(10)


@dataclass(frozen=True)
class EvidencePath:
    """log10 e after some of an account's events, the last one among them: `us` [n], `log10_e` [n], `log10_targets`
    [n][4]."""

    us: list[int]
    log10_e: list[float]
    log10_targets: list[list[float]]


def evidence_path(units: Sequence[Unit], baselines: Baselines, most: int = MOST_POINTS) -> EvidencePath:
    """The path through at most `most` points, evenly many events apart."""
    rows = sorted(units, key=lambda row: (row.us, row.event_id))
    begun = np.array([i for i, row in enumerate(rows) if i == 0 or rows[i - 1][3:5] != row[3:5]], np.int64)
    states, path = empty_states(1), EvidencePath([], [], [])
    for part in np.array_split(begun, min(len(begun), most)) if len(begun) else ():
        first = int(part[0])
        following = int(np.searchsorted(begun, part[-1], side="right"))
        last = int(begun[following]) if following < len(begun) else len(rows)
        own = rows[first:last]
        step = np.searchsorted(part, np.arange(first, last), side="right") - 1
        us = np.array([rows[i].us for i in part.tolist()], np.int64)
        steps = Steps(np.zeros(len(part), np.int64), us, count_units(own, step.tolist(), len(part)))
        states = fold(states, steps, baselines).states
        path.us.append(int(us[-1]))
        path.log10_e.append(float(states["log_e"][0]) / _PER_LOG10)
        path.log10_targets.append((states["log_e_target"][0] / _PER_LOG10).tolist())
    return path
