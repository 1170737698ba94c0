"""What is true of simulated traffic, gathered while it streams by, and the files that say it. Last step.

    truth/accounts.parquet         one row an account: `account_id`, `kind`, `campaign` (null: benign), `n_events`,
                                   `n_extraction`, `n_retries` (events that repeat the id of the one before), `share`
                                   (extraction of all), `first_seen`, `last_seen`, `extraction_from` (the earliest
                                   that it may extract; null: never)
    truth/events/part-*.parquet    row i is row i of the part of traffic with the same name: `family` (null: no
                                   extraction), `retry`
    truth/truth.json               seed, days, start, counts, and for each campaign: accounts, exchanges, extraction,
                                   families and their requests, capabilities, first and last extraction, change of
                                   template, how many are live at once, how many turn late

All counts are of events as written, retries included.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.simulate_accounts import Accounts
from training.simulate_events import DAY, Events
from training.simulate_kinds import ALL_KINDS
from training.simulate_scenario import Campaign, Scenario
from training.simulate_texts import Texts

UNSEEN = np.iinfo(np.int64).min
_INSTANT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Totals:
    """Counts of a whole simulation, as in truth.json."""

    events: int
    extraction: int
    retries: int


class Truth:
    """Counts by account, and by campaign and family."""

    def __init__(self, scenario: Scenario, accounts: Accounts, texts: Texts) -> None:
        self._scenario, self._accounts, self._texts = scenario, accounts, texts
        n, campaigns = len(accounts), len(scenario.campaigns)
        self._events, self._extraction, self._retries = (np.zeros(n, np.int64) for _ in range(3))
        self._first, self._last = np.full(n, UNSEEN), np.full(n, UNSEEN)
        self._by_family = np.zeros((campaigns, len(texts.families)), np.int64)
        self._spans = np.full((campaigns, 2), UNSEEN)

    def add(self, events: Events) -> None:
        """Count events that follow in time those added before."""
        n, account = len(self._accounts), events.account
        family = self._texts.shape_family[events.shape]
        bad = family >= 0
        self._events += np.bincount(account, minlength=n)
        self._extraction += np.bincount(account[bad], minlength=n)
        self._retries += np.bincount(account[events.retry], minlength=n)
        self._last[account] = events.time  # in order of time, so the last assignment stays
        new = self._first[account] == UNSEEN
        self._first[account[new][::-1]] = events.time[new][::-1]
        self._add_campaigns(self._accounts.campaign[account[bad]], family[bad], events.time[bad])

    def _add_campaigns(self, campaign: NDArray[np.int64], family: NDArray[np.int64], time: NDArray[np.int64]) -> None:
        np.add.at(self._by_family, (campaign, family), 1)
        for number in np.unique(campaign):
            own = time[campaign == number]
            if self._spans[number, 0] == UNSEEN:
                self._spans[number, 0] = own[0]
            self._spans[number, 1] = own[-1]

    @property
    def totals(self) -> Totals:
        return Totals(int(self._events.sum()), int(self._extraction.sum()), int(self._retries.sum()))

    def write(self, folder: Path) -> None:
        """Write `accounts.parquet` and `truth.json`."""
        pq.write_table(self._account_table(), folder / "accounts.parquet")
        scenario = self._scenario
        document = {
            "seed": scenario.seed,
            "days": scenario.days,
            "start": scenario.start.isoformat(),
            "accounts": scenario.accounts,
            "counts": asdict(self.totals),
            "campaigns": [self._campaign(number, each) for number, each in enumerate(scenario.campaigns)],
        }
        (folder / "truth.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def _account_table(self) -> pa.Table:
        accounts = self._accounts
        names = pa.array([campaign.name for campaign in self._scenario.campaigns], pa.string())
        benign = accounts.campaign < 0
        begins = _midnight(self._scenario, np.maximum(accounts.turn_day, accounts.first_day))
        columns = {
            "account_id": accounts.ids,
            "kind": pa.array([kind.name for kind in ALL_KINDS]).take(pa.array(accounts.kind)),
            "campaign": names.take(pa.array(accounts.campaign, mask=benign)),
            "n_events": pa.array(self._events),
            "n_extraction": pa.array(self._extraction),
            "n_retries": pa.array(self._retries),
            "share": pa.array(self._extraction / self._events),
            "first_seen": pa.array(self._first, _INSTANT),
            "last_seen": pa.array(self._last, _INSTANT),
            "extraction_from": pa.array(begins, _INSTANT, mask=benign),
        }
        return pa.table(columns)

    def _campaign(self, number: int, campaign: Campaign) -> dict[str, object]:
        own = self._accounts.campaign == number
        counts = self._by_family[number]
        changes = campaign.change_day
        return {
            "name": campaign.name,
            "accounts": campaign.accounts,
            "exchanges": int(self._events[own].sum()),
            "extraction": int(self._extraction[own].sum()),
            "share": campaign.share,
            "families": {name: int(count) for name, count in zip(self._texts.families, counts, strict=True) if count},
            "capabilities": sorted({c for c, count in zip(self._texts.capabilities, counts, strict=True) if count}),
            "first_extraction": _iso(int(self._spans[number, 0])),
            "last_extraction": _iso(int(self._spans[number, 1])),
            "template_change": None if changes is None else _iso(int(_midnight(self._scenario, np.int64(changes)))),
            "live_at_once": campaign.live,
            "turning": campaign.n_turning,
        }


def _midnight(scenario: Scenario, day: NDArray[np.int64] | np.int64) -> NDArray[np.int64]:
    """Microseconds since 1970 at which days of the simulation begin."""
    return np.datetime64(scenario.start, "us").astype(np.int64) + np.asarray(day) * DAY


def _iso(micros: int) -> str | None:
    if micros == UNSEEN:
        return None
    return datetime.fromtimestamp(micros // 1_000_000, UTC).isoformat()
