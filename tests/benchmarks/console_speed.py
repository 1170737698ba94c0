"""How long the server takes for each page of the console over a store of 250,000 accounts, generated here.

    python -m tests.benchmarks.console_speed [--accounts 250000] [--store FILE]

The budget is 300 ms a page. Two campaigns of 1,250 accounts each are flagged, 2,500 more are for review; every account
was active on ten days; one has 20,000 distinct prompts. What is printed is the median and the longest of five requests
in a row, and the processor time of the median one. The sums over all accounts, which pages share, are read in the
background; what they take is printed first. Other work on the machine shows in the times, less in the processor time.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from classifier.online import STATE
from classifier.types import TARGETS
from classifier.units import DAY_US
from service.store.opening import open_store
from service.store.sketch import EMPTY, added
from service.store.traffic import PARTS
from service.store.upgrade import upgrade
from tests.serving import Running, running

BEGIN = 20_600  # days since 1970
DAYS = 10
FLAGGED = 2_500
HEAVY = 20_000
FAMILIES = [f"family_{i}" for i in range(20)]
ROUNDS = 5


def generate(path: Path, n: int) -> None:
    """Fill a new store."""
    upgrade(open_store(f"sqlite:///{path}"))
    rng = np.random.default_rng(7)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous = OFF")
        log_m = rng.exponential(0.5, n)
        log_m[:FLAGGED] = rng.uniform(30, 200, FLAGGED)
        log_review = log_m.copy()
        log_review[FLAGGED : 2 * FLAGGED] = rng.uniform(20, 25, FLAGGED)
        units = rng.geometric(1 / 40, n)
        sent = units + rng.geometric(1 / 10, n)
        order = rng.permutation(n) + 1  # numbers, so that the flagged lie scattered
        _fill(db, "accounts", _accounts(order, log_m, log_review, units, sent, rng))
        _fill(db, "states", _states(order, log_m, log_review, units))
        _fill(db, "traffic", ((int(no), BEGIN + d, 1, 1, 0, 3, 1) for no in np.sort(order) for d in range(DAYS)))
        totals = ((BEGIN + d, part, n, n, 0, 3 * n, n) for d in range(DAYS) for part in range(PARTS))
        _fill(db, "day_totals", totals)
        flagged = order[:FLAGGED].tolist()
        _fill_context(db, order, set(flagged))
        uses = sorted((no, FAMILIES[(i * 7 + k) % 20]) for i, no in enumerate(flagged) for k in range(5))
        _fill(db, "uses", ((no, f, "rewriting", 1, 9, BEGIN * DAY_US, (BEGIN + 9) * DAY_US) for no, f in uses))
        records = ((no, (BEGIN + k) * DAY_US, 12.0 + 2 * k) for no in sorted(flagged) for k in range(DAYS))
        _fill(db, "records", records)
        _fill(db, "units", _units(flagged))
        _fill(db, "reviews", ((i, no, "confirmed", "x", "k", None, 1) for i, no in enumerate(flagged[:500])))
        _fill(db, "members", ((no, f"campaign-{i % 2}") for i, no in enumerate(flagged)))
        _fill(db, "publication", [(1, 1, 1, 2**62, _campaigns())])
        db.execute("ANALYZE")


def _accounts(
    order: np.ndarray, log_m: np.ndarray, log_review: np.ndarray, units: np.ndarray, sent: np.ndarray, rng: object
) -> Iterator[tuple[object, ...]]:
    columns = (order.tolist(), log_m.tolist(), log_review.tolist(), units.tolist(), sent.tolist())
    for no, m, review, n_units, n in zip(*columns, strict=True):
        last = (BEGIN + no % DAYS) * DAY_US + no
        yield (
            no,
            f"account-{no:07d}",
            n,
            n // 4,
            n // 4,
            0,
            n - 2 * (n // 4),
            0,
            BEGIN * DAY_US,
            last,
            n_units,
            m,
            review,
        )


def _states(
    order: np.ndarray, log_m: np.ndarray, log_review: np.ndarray, units: np.ndarray
) -> Iterator[tuple[object, ...]]:
    state = np.zeros(1, STATE)
    for i in np.argsort(order).tolist():
        state["day"], state["first_day"], state["n_units"] = BEGIN, BEGIN, units[i]
        state["log_e"] = state["log_max_e"] = log_m[i]
        state["log_review"] = log_review[i]
        state["log_max_e_target"] = state["log_review_target"] = -5.0
        state["log_max_e_target"][0, i % 3] = log_m[i] + 1.4
        state["log_basis"] = log_m[i]
        yield (int(order[i]), state.tobytes(), "e")


def _fill_context(db: sqlite3.Connection, order: np.ndarray, flagged: set[int]) -> None:
    """Every account used a model a day, of which one came on the sixth; every hundredth is of a reseller, the others
    are by four in an organisation; a tenth have end users."""
    numbers = sorted(order.tolist())
    days = ((no, BEGIN + d, f"model-{d // 5}", 6, 3 * (no in flagged)) for no in numbers for d in range(DAYS))
    _fill(db, "account_models", days)
    n = len(numbers)
    totals = ((BEGIN + d, f"model-{d // 5}", p, 6 * n, len(flagged)) for d in range(DAYS) for p in range(PARTS))
    _fill(db, "model_days", totals)
    organisations = ((no, "reseller" if no % 100 == 0 else f"org-{no // 4}") for no in numbers)
    _fill(db, "account_organisations", ((no, org, 60, 0, BEGIN * DAY_US, BEGIN * DAY_US) for no, org in organisations))
    sketch = added(EMPTY, np.random.default_rng(1).integers(0, 2**64, 500, np.uint64).tolist())
    _fill(db, "end_users", ((no, sketch, no % 997) for no in numbers if no % 10 == 0))


def _units(flagged: list[int]) -> Iterator[tuple[object, ...]]:
    """Of every flagged account 40, of one HEAVY."""
    for no in sorted(flagged):
        for k in range(HEAVY if no == flagged[0] else 40):
            us = (BEGIN + k % DAYS) * DAY_US + k
            yield (no, 0, k, us, f"e-{no}-{k}", k % 2, 0, k % 2, 0, FAMILIES[k % 20] if k % 2 else None)


def _campaigns() -> str:
    import json

    at = "2026-05-01T00:00:00.000000Z"
    return json.dumps(
        [
            {
                **{"campaign_id": f"campaign-{i}", "n_accounts": FLAGGED // 2, "n_prompts": 9 * FLAGGED},
                **{"capabilities": [TARGETS[i]], "techniques": ["rewriting"], "template_families": FAMILIES[:5]},
                **{"scaffolds": ["1"], "first_seen": at, "last_seen": at, "flagged_at": at, "log10_e": 99.0},
            }
            for i in range(2)
        ]
    )


def _fill(db: sqlite3.Connection, table: str, rows: Iterator[tuple[object, ...]] | list[tuple[object, ...]]) -> None:
    width = len(db.execute(f"PRAGMA table_info({table})").fetchall())
    db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * width)})", rows)


def addresses(path: Path) -> dict[str, str]:
    """What is measured."""
    with sqlite3.connect(path) as db:
        heavy, _ = db.execute("SELECT account_no, count(*) FROM units GROUP BY 1 ORDER BY 2 DESC LIMIT 1").fetchone()
        usual = db.execute("SELECT account_no FROM members WHERE account_no <> ? LIMIT 1", (heavy,)).fetchone()[0]
        clear = db.execute("SELECT account_no FROM accounts WHERE log_max_e < 1 LIMIT 1").fetchone()[0]
        few = db.execute("SELECT account_no FROM accounts WHERE n_units < 3 LIMIT 1").fetchone()[0]
    return {
        "overview": "/",
        "accounts": "/accounts",
        "accounts, flagged for coding": "/accounts?capability=coding",
        "accounts, undecided": "/accounts?undecided=1",
        "accounts, clear": "/accounts?decision=clear",
        "accounts, too few prompts": "/accounts?decision=insufficient_evidence",
        "accounts, of a family": "/accounts?family=family_3",
        "accounts, of a campaign": "/accounts?campaign=campaign-0",
        "accounts, seen on the last day": "/accounts?since=2026-06-05",
        "accounts, seen since a day": "/accounts?since=2026-05-30",
        "accounts, seen since tomorrow": "/accounts?since=2036-05-30",
        "accounts, search for one": "/accounts?search=0123456",
        "accounts, search for all": "/accounts?search=account",
        "accounts, search for none": "/accounts?search=nobody",
        "accounts, far down": "/accounts?after=2_0.001_5",
        "account, flagged": f"/account?id=account-{usual:07d}",
        "account, 20,000 distinct prompts": f"/account?id=account-{heavy:07d}",
        "account, clear": f"/account?id=account-{clear:07d}",
        "account, too few prompts": f"/account?id=account-{few:07d}",
        "evidence sheet": f"/account/sheet?id=account-{usual:07d}",
        "campaigns": "/campaigns",
        "campaign of 1,250": "/campaign?id=campaign-0",
        "accounts, of an organisation": "/accounts?organisation=org-1234",
        "accounts, of a reseller": "/accounts?organisation=reseller",
        "accounts, that began together": f"/accounts?began={BEGIN * 24}.1.1.0",
        "models": "/models",
        "model that came": "/model?name=model-1",
        "organisations": "/organisations",
        "first uses": "/beginnings",
        "templates": "/templates",
        "template": "/template?family=family_3",
    }


def measure(server: Running, path: str) -> tuple[float, float, float]:
    """Median and longest time, and median processor time, of a page, ms."""
    took, used = list[float](), list[float]()
    for _ in range(ROUNDS):
        cpu, began = time.process_time(), time.perf_counter()
        answer = server.client.get(path)
        took.append(1e3 * (time.perf_counter() - began))
        used.append(1e3 * (time.process_time() - cpu))
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:2000])
    return statistics.median(took), max(took), statistics.median(used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=250_000)
    parser.add_argument("--store", type=Path, help="Keep the generated store here, or use the one that is.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.store if given.store is not None else Path(folder) / "store.db"
        if not path.exists():
            generate(path, given.accounts)
        with running(f"sqlite:///{path}", population=given.accounts) as server:
            server.publish()
            print(f"{'page':<36}{'median':>8}{'longest':>9}{'CPU':>8}   ms")
            began, cpu = time.perf_counter(), time.process_time()
            server.standing.refresh()
            wall, used = 1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - cpu)
            print(f"{'(sums over all accounts)':<36}{wall:8.0f}{wall:9.0f}{used:8.0f}")
            for name, address in addresses(path).items():
                median, longest, cpu = measure(server, address)
                print(f"{name:<36}{median:8.0f}{longest:9.0f}{cpu:8.0f}", flush=True)


if __name__ == "__main__":
    main()
