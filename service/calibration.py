"""The operator's vetted accounts against the baselines of a labelled run: `probewatch calibrate`.

    labelled run, vetted list -> **calibration** -> sentences, a JSON file

What may honestly be promised about a population hangs on how many honest accounts were seen to keep to the baselines;
an operator has more of them, and of his own kinds, than the project that trained the bundle.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from classifier.bundle import Stratum, largest_epsilon, parse_baselines
from classifier.certification import FAMILY_PART, certify, exceeds, intent_baselines
from classifier.errors import InputError
from classifier.evidence import Baselines, merge_units
from classifier.exceptions import AgreedException, excuse
from classifier.types import LEVELS, SCHEMA_VERSION, TARGETS, UNIT_SCHEMA, Channel, Decision
from classifier.verdicts import fdr_bound
from service.database import database, parquet_source, query
from service.files import replacing

_INTENT = f"FILTER (channel = {Channel.INTENT}) / {LEVELS}"
_CONDUCT_SQL = f"""
SELECT account_id, decision, stratum, count(*) FILTER (channel = {Channel.SIGNATURE}) AS n_units,
       count(*) FILTER (y > 0) AS n_matches,
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
    """A vetted account: its rates against the baselines. `by_family`: rate of matches of each, highest first."""

    account_id: str
    stratum: str
    decision: Decision
    n_units: int
    match_rate: float
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
class Calibrated:
    """What the vetted accounts of a run say. `above`: those beyond the baselines; `m2`: what intent's would be if set
    by them; `absent`: listed accounts that the run does not hold."""

    run: RunFacts
    conducts: Sequence[Conduct]
    strata: Sequence[Stratum]
    above: Sequence[Conduct]
    families: Sequence[LoudFamily]
    m2: tuple[float, float, float, float]
    fdr_bound: float
    absent: Sequence[str]
    n_excused: int


def calibrate(run_dir: Path, vetted: Mapping[str, str], exceptions: Sequence[AgreedException]) -> Calibrated:
    """Measure vetted accounts (account -> stratum) of a run, but for agreed exceptions.

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
    above = [c for c in conducts if exceeds(c.match_rate, np.array(c.intent), run.baselines)]
    names = sorted({c.stratum for c in conducts})
    strata = [certify(name, [c in above for c in conducts if c.stratum == name]) for name in names]
    present = {c.account_id for c in conducts}
    return Calibrated(
        run=run,
        conducts=conducts,
        strata=strata,
        above=above,
        families=_loud_families(conducts, run.baselines),
        m2=intent_baselines(np.array([c.intent for c in conducts])),
        fdr_bound=fdr_bound(run.n_flagged, [(largest_epsilon(strata), run.population)]),
        absent=sorted(set(vetted) - present),
        n_excused=n_excused,
    )


def write_calibration(found: Calibrated, path: Path) -> None:
    """All of it as JSON, whole or not at all. Raises OutputError if it cannot be written."""
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **asdict(found)}
    document["n_accounts"] = len(document.pop("conducts"))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


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
            excused = excuse(merge_units([query(db, f"FROM {own}").cast(UNIT_SCHEMA)]), exceptions)
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
    account, decision, stratum, n_units, n_matches, *intent = row
    units = max(n_units, 1)  # benign signatures may explain all that it sent
    rates = {family: n / units for family, n in matches.items()}
    return Conduct(account, stratum, Decision(decision), n_units, n_matches / units, tuple(intent), rates)


def _loud_families(conducts: Sequence[Conduct], baselines: Baselines) -> list[LoudFamily]:
    """Those with most such accounts first."""
    rates: dict[str, dict[str, float]] = {}
    for c in conducts:
        for family, rate in c.by_family.items():
            if rate > baselines.m1 / FAMILY_PART:
                rates.setdefault(family, {})[c.account_id] = rate
    found = [LoudFamily(family, list(by), max(by.values())) for family, by in rates.items()]
    return sorted(found, key=lambda f: (-len(f.accounts), f.family))
