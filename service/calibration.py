"""The operator's vetted accounts against the baselines of a labelled run: `probewatch calibrate`.

    labelled run, vetted list -> **calibration** -> sentences, a file (`calibration_file`)

What may honestly be promised about a population hangs on how many honest accounts were seen to keep to the baselines;
an operator has more of them, and of his own kinds, than the project that trained the bundle.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.bundle import Stratum, parse_baselines
from classifier.certification import FAMILY_PART, Certificate, certify, exceeds, expected_intent, intent_baselines
from classifier.errors import InputError
from classifier.evidence import Baselines
from classifier.exceptions import AgreedException, excuse
from classifier.reachback import in_force
from classifier.types import LEVELS, TARGETS, UNIT_SCHEMA, Channel, Decision
from classifier.units import merge_units
from service.database import database, parquet_source, query

_INTENT = f"FILTER (channel = {Channel.INTENT}) / {LEVELS}"
_CONDUCT_SQL = f"""
SELECT account_id, decision, stratum, count(*) FILTER (channel = {Channel.SIGNATURE}) AS n_units,
       count(*) FILTER (y > 0) AS n_matches, count(*) FILTER (channel = {Channel.INTENT}) AS n_intent,
       {", ".join(f"coalesce(avg(level_{c}) {_INTENT}, 0)" for c in TARGETS)}
FROM vetted JOIN accounts USING (account_id) LEFT JOIN units USING (account_id)
GROUP BY ALL ORDER BY account_id
"""
_FAMILIES_SQL = """
SELECT account_id, family, count(*) FROM units WHERE y > 0 AND family IS NOT NULL
GROUP BY ALL ORDER BY account_id, count(*) DESC, family
"""


@dataclass(frozen=True)
class Conduct:
    """A vetted account: its rates against the baselines. `intent`: mean of its `n_intent` units of intent, a value a
    target; `by_family`: rate of matches of each, highest first."""

    account_id: str
    stratum: str
    decision: Decision
    n_units: int
    match_rate: float
    n_intent: int
    intent: tuple[float, ...]
    by_family: Mapping[str, float]


@dataclass(frozen=True)
class LoudFamily:
    """An exclusive family by which alone some vetted accounts exceed m1 / FAMILY_PART; the largest rate of these."""

    family: str
    accounts: Sequence[str]
    rate: float


@dataclass(frozen=True)
class RunFacts:
    """What run.json says that calibration needs."""

    bundle_id: str
    catalogue_id: str
    baselines: Baselines
    population: int
    n_flagged: int
    fdr_bound: float


@dataclass(frozen=True)
class Own:
    """A certificate that rests on vetted accounts alone: every second one of a stratum sets the baselines of intent,
    and the others are counted in `strata`, for who sets a baseline cannot certify it."""

    baselines: Baselines
    strata: Sequence[Stratum]


@dataclass(frozen=True)
class Calibrated:
    """What the vetted accounts of a run say. `above`: those beyond the baselines of the run, as `strata` counts them,
    with the intent that is to be expected of them; `registered`: accounts of a stratum, where that is known; `absent`:
    listed accounts that the run does not hold."""

    run: RunFacts
    conducts: Sequence[Conduct]
    strata: Sequence[Stratum]
    above: Sequence[Conduct]
    families: Sequence[LoudFamily]
    own: Own
    registered: Mapping[str, int]
    fdr_bound: float
    absent: Sequence[str]
    n_excused: int


def calibrate(
    run_dir: Path,
    vetted: Mapping[str, str],
    exceptions: Sequence[AgreedException],
    registered: Mapping[str, int] = MappingProxyType({}),
) -> Calibrated:
    """Measure vetted accounts (account -> stratum) of a run, but for agreed exceptions. `registered`: how many accounts
    are of a stratum, where that is known.

    Raises:
        InputError: no labelled run, a file of it that cannot be read, or none of the accounts in it.
    """
    run = _read_facts(run_dir / "run.json")
    conducts, n_excused = _conducts(run_dir, vetted, exceptions)
    if not conducts:
        raise InputError(
            f"{run_dir}: holds none of the {len(vetted):,} vetted accounts; give a run in which they are, and ids as "
            "there."
        )
    above = _above(conducts, run.baselines)
    strata = _strata(conducts, above)
    present = {c.account_id for c in conducts}
    return Calibrated(
        run=run,
        conducts=conducts,
        strata=strata,
        above=above,
        families=_loud_families(conducts, run.baselines),
        own=_own(conducts, run.baselines.m1),
        registered=dict(registered),
        fdr_bound=Certificate(run.baselines, strata, registered).bound(run.n_flagged, run.population),
        absent=sorted(set(vetted) - present),
        n_excused=n_excused,
    )


def _above(conducts: Sequence[Conduct], baselines: Baselines) -> list[Conduct]:
    """Those beyond the baselines, with the intent that is to be expected of them; 0 where too little is known."""
    return [
        replace(c, intent=tuple(np.nan_to_num(means).tolist()))
        for c, means in zip(conducts, _expected(conducts), strict=True)
        if exceeds(c.match_rate, means, baselines)
    ]


def _expected(conducts: Sequence[Conduct]) -> NDArray[np.float64]:
    """[A, 4], accounts of a stratum being of one kind (see `expected_intent`)."""
    means = np.array([c.intent for c in conducts]).reshape(-1, len(TARGETS))
    return expected_intent(means, np.array([c.n_intent for c in conducts], int), [c.stratum for c in conducts])


def _strata(conducts: Sequence[Conduct], above: Sequence[Conduct]) -> list[Stratum]:
    names, by_name = {c.account_id for c in above}, dict[str, list[bool]]()
    for c in conducts:
        by_name.setdefault(c.stratum, []).append(c.account_id in names)
    return [certify(name, by_name[name]) for name in sorted(by_name)]


def _own(conducts: Sequence[Conduct], m1: float) -> Own:
    """Which half an account is of has nothing to do with what it sent."""
    ranked = sorted(conducts, key=lambda c: (c.stratum, blake2b(c.account_id.encode()).digest()))
    baselines = Baselines(m1, intent_baselines(_expected(ranked[::2])))
    return Own(baselines, _strata(ranked[1::2], _above(ranked[1::2], baselines)))


def _read_facts(path: Path) -> RunFacts:
    if not path.is_file():
        raise InputError(f"{path.parent}: holds no run.json; give the folder that `probewatch label --out` wrote.")
    try:
        document = json.loads(path.read_bytes())
        return RunFacts(
            bundle_id=str(document["bundle_id"]),
            catalogue_id=str(document["catalogue_id"]),
            baselines=parse_baselines(document["baselines"]),
            population=int(document["population"]),
            n_flagged=int(document["decisions"][Decision.FLAG]),
            fdr_bound=float(document["fdr_bound"]),
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        kind = type(error).__name__
        raise InputError(f"{path}: is not the run.json of a labelled run ({kind}); label again.") from error


def _conducts(
    run_dir: Path, vetted: Mapping[str, str], exceptions: Sequence[AgreedException]
) -> tuple[list[Conduct], int]:
    parts = sorted((run_dir / "evidence").glob("units-*.parquet"))
    if not parts:
        raise InputError(f"{run_dir}: holds no evidence; give the folder that `probewatch label --out` wrote.")
    listed = pa.table({"account_id": list(vetted), "stratum": list(vetted.values())})
    with tempfile.TemporaryDirectory() as spill, database(Path(spill), 1) as db:
        try:
            db.register("vetted", listed)
            db.execute(f"CREATE VIEW accounts AS SELECT * FROM {parquet_source([run_dir / 'accounts.parquet'])}")
            own = f"(SELECT u.* FROM {parquet_source(parts)} u SEMI JOIN vetted USING (account_id))"
            merged = merge_units([query(db, f"FROM {own}").cast(UNIT_SCHEMA)])
            excused = excuse(in_force(merged), exceptions)
            db.register("units", excused.units)
            families = db.execute(_FAMILIES_SQL).fetchall()
            rows = db.execute(_CONDUCT_SQL).fetchall()
        except duckdb.Error as error:
            kind = type(error).__name__
            raise InputError(f"{run_dir}: a table of this run is damaged or missing ({kind}); label again.") from error
    by_account: dict[str, dict[str, int]] = {}
    for account, family, n in families:
        by_account.setdefault(account, {})[family] = n
    return [_conduct(row, by_account.get(row[0], {})) for row in rows], sum(excused.n_units)


def _conduct(row: Sequence[Any], matches: Mapping[str, int]) -> Conduct:
    account, decision, stratum, n_units, n_matches, n_intent, *intent = row
    units = max(n_units, 1)  # benign signatures may explain all that it sent
    rates = {family: n / units for family, n in matches.items()}
    return Conduct(account, stratum, Decision(decision), n_units, n_matches / units, n_intent, tuple(intent), rates)


def _loud_families(conducts: Sequence[Conduct], baselines: Baselines) -> list[LoudFamily]:
    """Those with most such accounts first."""
    rates: dict[str, dict[str, float]] = {}
    for c in conducts:
        for family, rate in c.by_family.items():
            if rate > baselines.m1 / FAMILY_PART:
                rates.setdefault(family, {})[c.account_id] = rate
    found = [LoudFamily(family, list(by), max(by.values())) for family, by in rates.items()]
    return sorted(found, key=lambda f: (-len(f.accounts), f.family))
