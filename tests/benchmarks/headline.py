"""The largest documented campaign, really run: simulated in ordinary traffic, labelled, and held against the truth.

    python -m tests.benchmarks.headline [--folder FOLDER] [--exchanges N --accounts N] [--keep]

28.8 million exchanges of 25,000 accounts in 45 days, a quarter of them extraction by registered families, in 30 million
of 250,000 others (data/simulate/headline.toml; for a smaller run, N of each in the same proportion). It takes some
20 GB of disk. What simulated people write is the project's own and narrow: this measures the machinery, and how soon
accounts and families are known; how well texts are told apart is measured elsewhere (`evaluate`, `accounts`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from classifier.bundle import data_dir
from service.bench.commands import Took, run_probewatch

EXCHANGES, ACCOUNTS = 58_800_000, 275_000
SCENARIO = data_dir() / "simulate" / "headline.toml"
BY_DAY = 10
LEAST_PROMPTS = 20

VIEWS = """
CREATE VIEW truth AS SELECT * FROM read_parquet('{sim}/truth/accounts.parquet');
CREATE VIEW traffic AS SELECT account_id, timestamp FROM read_parquet('{sim}/traffic/*.parquet');
CREATE VIEW labels AS SELECT * FROM read_parquet('{run}/labels/*.parquet');
CREATE VIEW accounts AS SELECT * FROM read_parquet('{run}/accounts.parquet');
CREATE VIEW campaigns AS SELECT * FROM read_parquet('{run}/campaigns.parquet');
CREATE TABLE judged AS
    SELECT account_id, truth.campaign IS NOT NULL AS bad, extraction_from, decision, flagged_at, campaign_id,
           decision = 'flag' OR campaign_id IS NOT NULL AS found
    FROM truth LEFT JOIN accounts USING (account_id);
"""
SERVED = """
SELECT count(*) FILTER (timestamp < (SELECT min(flagged_at) FROM campaigns)), count(*),
       min(timestamp), (SELECT min(flagged_at) FROM campaigns)
FROM traffic SEMI JOIN (FROM judged WHERE bad) USING (account_id)
"""
"""Of the campaign's exchanges, ordinary ones among them: before its first family was flagged, and all."""
BY_THEN = f"""
WITH early AS (
    FROM labels SEMI JOIN (FROM judged WHERE bad) USING (account_id)
    SELECT account_id, count(*) AS n, count(DISTINCT unit) FILTER (template_family IS NOT NULL) AS matches
    WHERE timestamp < (SELECT min(timestamp) FROM labels) + INTERVAL {BY_DAY} DAY GROUP BY account_id
)
SELECT count(*), count(*) FILTER (extraction_from < day),
       count(*) FILTER (flagged_at < day OR (matches >= 2 AND campaign_id IS NOT NULL))
FROM early JOIN judged USING (account_id), (SELECT min(timestamp) + INTERVAL {BY_DAY} DAY AS day FROM labels)
WHERE n >= {LEAST_PROMPTS}
"""
"""Of its accounts with enough prompts by then: all; those that had extracted anything, as those that turn late had not;
and those flagged or linked (two distinct matches, member in the end)."""
FOUND = """
SELECT count(*) FILTER (bad), count(*) FILTER (bad AND decision = 'flag'), count(*) FILTER (bad AND found),
       count(*) FILTER (NOT bad), count(*) FILTER (NOT bad AND decision = 'flag'),
       count(*) FILTER (NOT bad AND decision = 'review'), count(*) FILTER (NOT bad AND campaign_id IS NOT NULL)
FROM judged
"""
MEMBERS = """
SELECT campaign_id, count(*) AS n, count(*) FILTER (bad) FROM judged WHERE campaign_id IS NOT NULL
GROUP BY campaign_id ORDER BY n DESC, campaign_id LIMIT 5
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exchanges", type=int, default=EXCHANGES)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--folder", type=Path, help="where all is made (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave what was made in --folder, and use what is there")
    given = parser.parse_args()
    if given.keep and given.folder is not None:
        measure(given.folder, given.exchanges, given.accounts)
        return
    with TemporaryDirectory(dir=given.folder) as folder:
        measure(Path(folder), given.exchanges, given.accounts)


def measure(folder: Path, exchanges: int, accounts: int) -> None:
    """Simulate, label, compare, and print."""
    sim, run = folder / "sim", folder / "run"
    if not (sim / "truth" / "truth.json").exists():
        scale = scaled_scenario(folder, exchanges / EXCHANGES)
        sizes = ["--exchanges", str(exchanges), "--accounts", str(accounts), "--scenario", str(scale)]
        print_cost("simulate", exchanges, run_probewatch(["simulate", "--out", str(sim), "--quiet", *sizes]))
    took = run_probewatch(["label", str(sim / "traffic"), "--out", str(run), "--population", str(accounts), "--quiet"])
    print_cost("label", exchanges, took)
    print("  stages", json.loads((run / "run.json").read_text(encoding="utf-8"))["seconds"])
    compare(sim, run)


def scaled_scenario(folder: Path, scale: float) -> Path:
    """The scenario with numbers of accounts and exchanges in proportion."""
    lines = SCENARIO.read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        name, _, value = line.partition(" = ")
        if name in ("accounts", "exchanges", "live"):
            lines[i] = f"{name} = {round(int(value) * scale)}"
    path = folder / "scenario.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def print_cost(name: str, n: int, took: Took) -> None:
    print(f"{name}, {n:,} exchanges: {took.seconds:,.0f} s, {n / took.seconds:,.0f}/s, peak {took.peak_mib:,.0f} MiB")


def compare(sim: Path, run: Path) -> None:
    """What was found, against the truth."""
    with duckdb.connect() as db:
        db.execute(VIEWS.format(sim=sim, run=run))
        before, served, begun, flagged = db.execute(SERVED).fetchone() or ()
        known, begun_by, found_by = db.execute(BY_THEN).fetchone() or ()
        bad, bad_flagged, bad_found, others, false, reviewed, drawn_in = db.execute(FOUND).fetchone() or ()
        members = db.execute(MEMBERS).fetchall()
    print(f"served before the first family is flagged: {before:,} of {served:,} ({before / served:.4%})")
    print(f"  which took {flagged - begun}; accounts with {LEAST_PROMPTS} prompts by day {BY_DAY}: {known:,},")
    print(f"  of which {begun_by:,} had extracted anything by then, and {found_by:,} were flagged or linked")
    print(f"the campaign's {bad:,} accounts: flagged {bad_flagged:,}, flagged or linked {bad_found:,}")
    print(f"the {others:,} others: flagged {false:,}, in review {reviewed:,}, in a campaign {drawn_in:,}")
    for campaign, n, right in members:
        print(f"  {campaign}: {n:,} accounts, pure {right / n:.2%}, holds {right / bad:.2%} of the campaign")


if __name__ == "__main__":
    main()
