"""A small simulated world, and how it is read back: shared by the tests of the simulator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from training.simulate_scenario import Scenario

EXCHANGES, ACCOUNTS, DAYS = 40_000, 500, 21
START = datetime(2026, 9, 1, tzinfo=UTC)
LIVE, MEMBERS, TURNING, TURN_DAY, CHANGE_DAY, FIRST_DAY, RAMP = 12, 40, 10, 12, 14, 2, 4
BEFORE, AFTER = ("pw_seeded_code", "pw_review_bug"), ("sim_season_atlas",)


def campaign(**changes: Any) -> Any:
    from training.simulate_scenario import Campaign

    facts: dict[str, Any] = {
        "name": "mill",
        "accounts": MEMBERS,
        "exchanges": 8_000,
        "share": 0.3,
        "families": BEFORE,
        "first_day": FIRST_DAY,
        "live": LIVE,
        "ramp_days": RAMP,
        "change_day": CHANGE_DAY,
        "families_after": AFTER,
        "turning": TURNING / MEMBERS,
        "turn_day": TURN_DAY,
    }
    return Campaign(**{**facts, **changes})


def scenario(*campaigns: Any, exchanges: int = EXCHANGES, accounts: int = ACCOUNTS, seed: int = 7) -> Scenario:
    from training.simulate_scenario import Plan, make_scenario

    return make_scenario(Plan(campaigns or (campaign(),), DAYS, date(2026, 9, 1)), exchanges, accounts, None, seed)


@dataclass(frozen=True)
class World:
    """A simulated folder, read back; `traffic` has the columns of the event truth as well."""

    folder: Path
    traffic: pa.Table
    accounts: dict[str, dict[str, Any]]
    truth: dict[str, Any]

    def day_of(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Day of the simulation of each event."""
        micros = self.traffic["timestamp"].cast(pa.int64()).to_numpy()
        return np.asarray((micros - int(START.timestamp()) * 1_000_000) // 86_400_000_000)


def read_world(folder: Path) -> World:
    parts = sorted((folder / "traffic").iterdir())
    assert [part.name for part in parts] == sorted(part.name for part in (folder / "truth" / "events").iterdir())
    tables = []
    for part in parts:
        table, beside = pq.read_table(part), pq.read_table(folder / "truth" / "events" / part.name)
        tables.append(table.append_column("family", beside["family"].cast(pa.string())))
        tables[-1] = tables[-1].append_column("retry", beside["retry"])
    accounts = {row["account_id"]: row for row in pq.read_table(folder / "truth" / "accounts.parquet").to_pylist()}
    return World(folder, pa.concat_tables(tables), accounts, json.loads((folder / "truth" / "truth.json").read_text()))
