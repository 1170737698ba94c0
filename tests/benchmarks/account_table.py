"""The table of the account benchmark: what was aimed at, what was reached. Results in, lines out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import beta

from classifier.certification import certify
from classifier.types import TARGETS
from classifier.verdicts import fdr_bound
from tests.benchmarks.account_conduct import APPLICATIONS, DATA_SETS, PEOPLE
from tests.benchmarks.account_outcomes import UNKNOWN, Outcome, Pairs
from tests.benchmarks.account_worlds import Cell

if TYPE_CHECKING:
    from tests.benchmarks.account_pool import Pool
    from tests.benchmarks.accounts import Results

RESAMPLES = 10_000
OTHER = len(TARGETS) - 1
POWER_AIMS = {1.0: 0.99, 0.5: 0.99, 0.25: 0.99, 0.1: 0.95, 0.05: 0.5}
REVIEW_AIMS = {1.0: 0.6, 0.5: 0.4, 0.25: 0.15}
MAIN_PROMPTS = 120
MOST_NAMED = 6


@dataclass(frozen=True)
class Line:
    """`met` is None where nothing was aimed at."""

    measure: str
    target: str
    reached: str
    met: bool | None = None

    @property
    def verdict(self) -> str:
        return "" if self.met is None else "met" if self.met else "MISSED"


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    return low, 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


def share(hits: Sequence[np.ndarray]) -> str:
    """`0.950 (0.930 to 0.965)`, of all accounts of all worlds."""
    found = np.concatenate(hits)
    low, high = clopper_pearson(int(found.sum()), len(found))
    return f"{found.mean():.3f} ({low:.3f} to {high:.3f})"


def bootstrap_upper(values: np.ndarray) -> float:
    """Upper 95 % limit of a mean over worlds."""
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    return float(np.quantile(values[drawn].mean(axis=1), 0.95))


def lines(pool: Pool, results: Results) -> list[Line]:
    return [
        *null_lines(results.null),
        *false_lines(results),
        *conduct_lines(pool, results),
        *power_lines(results.outcomes),
        *review_lines(results),
        *capability_lines(results.outcomes),
        *pair_lines(results.pairs),
    ]


def null_lines(null: Sequence[Outcome]) -> Iterator[Line]:
    k, n = sum(o.n_flagged > 0 for o in null), len(null)
    upper = clopper_pearson(k, n)[1]
    reached = f"{k} of {n} (95 % bound {upper:.2%})"
    yield Line("null worlds with any flag", "0, or within 1 % at its bound", reached, k == 0 or upper <= 0.01)


def false_lines(results: Results) -> Iterator[Line]:
    """Of the largest share at any time, a world's mean over cells, and at the worst of the cells."""
    by_cell = {cell: np.array([o.false_share for o in found]) for cell, found in results.outcomes.items()}
    every = np.stack(list(by_cell.values()), axis=1)
    upper = bootstrap_upper(every.mean(axis=1))
    worst = max(by_cell, key=lambda cell: by_cell[cell].mean())
    limit = bootstrap_upper(by_cell[worst])
    name = f"false share of flags, largest at any time, {len(every)} worlds"
    yield Line(name, "≤ 1 %", f"{every.mean():.3%}, bootstrap upper end {upper:.3%}", upper <= 0.01)
    yield Line(f"  worst cell: {_cell(worst)}", "", f"{by_cell[worst].mean():.3%}, bootstrap upper end {limit:.3%}")
    kinds = Counter(kind for found in results.outcomes.values() for o in found for kind in o.false_kinds)
    yield Line("  benign accounts flagged, by kind, all cells", "", _counted(kinds) if kinds else "none")
    unmatched = sum(o.unmatched for found in results.outcomes.values() for o in found)
    unmatched += sum(o.unmatched for o in results.null)
    yield Line("flags of accounts without a verified match", "never", f"{unmatched}", unmatched == 0)


def conduct_lines(pool: Pool, results: Results) -> Iterator[Line]:
    epsilon = []
    for stratum in (APPLICATIONS, DATA_SETS, PEOPLE):
        own = [sender for sender in results.conduct if sender.stratum == stratum]
        epsilon.append(certify(stratum, [sender.above for sender in own]).epsilon)
        loud = sorted((s for s in own if s.above_m1), key=lambda s: -s.match_rate)
        named = "; ".join(f"{s.name} {s.match_rate:.2%} ({', '.join(s.families)})" for s in loud[:MOST_NAMED])
        yield Line(f"{stratum} held out above m1", "printed", f"{len(loud)} of {len(own)}" + (named and f": {named}"))
        over = [s for s in own if s.above and not s.above_m1]
        names = ", ".join(sorted({s.name for s in over})[:MOST_NAMED])
        yield Line(
            f"{stratum} held out above m2 alone", "printed", f"{len(over)} of {len(own)}" + (names and f": {names}")
        )
    bounds = [fdr_bound(o.n_flagged, [(max(epsilon), o.n_benign)]) for o in results.outcomes[Cell(0.25, MAIN_PROMPTS)]]
    told = f"{np.mean(bounds):.2f} (least certified stratum: ε = {max(epsilon):.3f})"
    yield Line("fdr_bound of a world, by the senders held out", "printed", told)
    told = f"m1 = {pool.baselines.m1:g}, m2 = {', '.join(f'{m:.2f}' for m in pool.baselines.m2)}"
    yield Line("baselines, set without what is held out", "printed", told)


def power_lines(outcomes: dict[Cell, list[Outcome]]) -> Iterator[Line]:
    for cell, aim in ((Cell(s, MAIN_PROMPTS), aim) for s, aim in POWER_AIMS.items()):
        yield _power(f"power, {_cell(cell)}, 1 % bad", aim, [o.bad_flagged for o in outcomes[cell]])
    tenth = outcomes[Cell(0.1, MAIN_PROMPTS)]
    yield _power("power, 10 %, a lone account of 2,020", 0.9, [o.bad_lone for o in tenth])
    yield Line("  the same, of 250,000", "", share([o.bad_lone_registered for o in tenth]))
    late = outcomes[Cell(0.1, MAIN_PROMPTS, clean=30)]
    yield _power("power, 10 %, after 30 clean days, 1 % bad", 0.9, [o.bad_flagged for o in late])
    half = np.concatenate([_to_flag(o) for o in outcomes[Cell(0.5, MAIN_PROMPTS)]])
    median = float(np.median(half))
    yield Line("median prompts to flag, 50 %", "≤ 10", f"{median:g}", median <= 10)
    yield from _other_volumes(outcomes)


def _other_volumes(outcomes: dict[Cell, list[Outcome]]) -> Iterator[Line]:
    for s in POWER_AIMS:
        cells = sorted((c for c in outcomes if c == Cell(s, c.prompts)), key=lambda c: c.prompts)
        found = [np.concatenate([o.bad_flagged for o in outcomes[c]]).mean() for c in cells]
        told = ", ".join(f"{c.prompts:,}: {power:.3f}" for c, power in zip(cells, found, strict=True))
        yield Line(f"  power by prompts an account, {s:.0%}", "", told)


def _to_flag(outcome: Outcome) -> np.ndarray:
    """Prompts to flag of every bad account, inf for those not flagged."""
    found = np.full(len(outcome.bad_flagged), np.inf)
    found[outcome.bad_flagged] = outcome.prompts
    return found


def _power(name: str, aim: float, hits: Sequence[np.ndarray]) -> Line:
    return Line(name, f"≥ {aim:.2f}", share(hits), bool(np.concatenate(hits).mean() >= aim))


def review_lines(results: Results) -> Iterator[Line]:
    for s, aim in REVIEW_AIMS.items():
        found = results.outcomes[Cell(s, MAIN_PROMPTS, "left out")]
        yield _power(
            f"families left out, {s:.0%}: review or flag", aim, [o.bad_reviewed | o.bad_flagged for o in found]
        )
        yield Line("  of these, flag", "", share([o.bad_flagged for o in found]))
    every = [o for found in results.outcomes.values() for o in found]
    benign = np.array([len(o.review_kinds) / o.n_benign for o in every])
    yield Line(
        "benign accounts in review", "≤ 5 %", f"{benign.mean():.2%}, most {benign.max():.2%}", benign.mean() <= 0.05
    )
    kinds = Counter(kind for o in every for kind in o.review_kinds)
    yield Line("  by kind", "", _counted(kinds))


def capability_lines(outcomes: dict[Cell, list[Outcome]]) -> Iterator[Line]:
    """Of flagged accounts whose extraction has one true target; those of `other` apart."""
    known = [o for cell, found in outcomes.items() if cell.families == "known" for o in found]
    yield _capability("right capability, known families", known, other=False)
    yield _capability("  families that target other", known, other=True)
    ours = [o for cell, found in outcomes.items() if cell.families == "written" for o in found]
    yield _capability("right capability, families written for the product", ours, other=False)
    left_out = [o for cell, found in outcomes.items() if cell.families == "left out" for o in found]
    if any((o.bad_flagged & (o.truth != UNKNOWN)).any() for o in left_out):
        yield _capability("  right capability, families left out", left_out, other=False, aim=None)


def _capability(name: str, found: Sequence[Outcome], *, other: bool, aim: float | None = 0.97) -> Line:
    chosen = [o.bad_flagged & (o.truth != UNKNOWN) & ((o.truth == OTHER) == other) for o in found]
    right = [(o.truth == o.named)[of] for o, of in zip(found, chosen, strict=True)]
    n = int(sum(map(np.sum, chosen)))
    if n == 0:
        return Line(name, "", "none is flagged")
    reached = f"{share(right)} of {n:,} accounts"
    if other or aim is None:
        return Line(name, "", reached)
    return Line(name, f"≥ {aim:.2f}", reached, bool(np.concatenate(right).mean() >= aim))


def pair_lines(pairs: dict[Cell, list[Pairs]]) -> Iterator[Line]:
    for cell, found in pairs.items():
        true, put, right = (sum(getattr(p, name) for p in found) for name in ("true", "found", "right"))
        purity, completeness = right / max(put, 1), right / max(true, 1)
        aimed = cell.share >= 0.25
        met = (purity >= 0.98, completeness >= 0.95) if aimed else (None, None)
        name = f"campaign {{}}, pairs of accounts, {_cell(cell)}"
        yield Line(name.format("purity"), "≥ 0.98" if aimed else "", f"{purity:.3f} of {put:,} pairs", met[0])
        yield Line(name.format("completeness"), "≥ 0.95" if aimed else "", f"{completeness:.3f} of {true:,}", met[1])


def _cell(cell: Cell) -> str:
    late = f" after {cell.clean} clean days" if cell.clean else ""
    return f"{cell.share:.0%} of {cell.prompts:,} prompts, {cell.families} families{late}"


def _counted(kinds: Counter[str]) -> str:
    total = sum(kinds.values())
    return ", ".join(f"{name} {count / total:.0%}" for name, count in kinds.most_common(MOST_NAMED))
