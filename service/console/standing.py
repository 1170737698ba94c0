"""What the pages go by: thresholds and campaigns as last published, and when accounts were flagged. Stands first."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from classifier.online import evidence_of
from classifier.types import TARGETS, Decision
from classifier.verdicts import Thresholds, judge
from service.http.accounts_view import account_rows
from service.http.problems import Problem, unavailable
from service.http.published import Published
from service.http.service import Service
from service.report_types import Account
from service.store.context_sums import ContextSums, read_context_sums
from service.store.overview import (
    DaySums,
    FamilySums,
    count_decisions,
    read_days,
    read_families,
    read_flagged_days,
    read_flagged_states,
)
from service.store.reading import Known
from service.store.standing import read_flag_times

SHARE = 20
"""Sums over all accounts are read at most this part of the time."""
QUICK_SECONDS = 0.1
"""Sums that took less are read while the page waits, so that it shows what is."""


@dataclass(frozen=True)
class Campaign:
    """A row of campaigns.parquet as published."""

    campaign_id: str
    n_accounts: int
    n_prompts: int
    capabilities: list[str]
    techniques: list[str]
    template_families: list[str]
    scaffolds: list[str]
    first_seen: datetime
    last_seen: datetime
    flagged_at: datetime | None
    log10_e: float


@dataclass(frozen=True)
class Snapshot:
    """Sums over all accounts at a moment. `flag_times`: when the rule first held for each flagged account, us, by
    account_no; `flagged_for`: flagged accounts by what they are flagged for; `days` of all, `flagged_days` of the
    flagged."""

    flag_times: Mapping[int, int]
    flagged_for: Mapping[str, int]
    decisions: Mapping[Decision, int]
    days: Sequence[DaySums]
    flagged_days: Sequence[DaySums]
    families: Mapping[str, FamilySums]
    context: ContextSums


class Standing:
    """Where accounts stand, for the console of one process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._snapshot: Snapshot | None = None
        self._read_at = self._took = 0.0
        self._reading = threading.Lock()

    @property
    def published(self) -> Published:
        """What was last published. Raises Problem 503 before there is anything."""
        reason, published = self._service.not_ready, self._service.scorer.published
        if published is None:
            raise unavailable("not-ready", reason if reason is not None else "Nothing is published yet.")
        return published

    @property
    def thresholds(self) -> Thresholds:
        return self.published.thresholds

    @property
    def campaigns(self) -> list[Campaign]:
        """Largest first."""
        return [_campaign(one) for one in self._service.refresher.publication.campaigns]

    def campaign(self, campaign_id: str) -> Campaign:
        """A campaign by its id. Raises Problem 404."""
        found = next((one for one in self.campaigns if one.campaign_id == campaign_id), None)
        if found is None:
            raise Problem(404, "unknown-campaign", "There is no such campaign, or it is one no more.")
        return found

    def snapshot(self) -> Snapshot:
        """Sums that take a while at scale: no page but the first waits for them then, and they are read again after
        SHARE times as long."""
        snapshot, took = self._snapshot, self._took
        if snapshot is not None and time.monotonic() < self._read_at + (1 + SHARE) * took:
            return snapshot
        if snapshot is None or took < QUICK_SECONDS:
            return self.refresh()
        if not self._reading.locked():
            threading.Thread(target=self.refresh, name="console", daemon=True).start()
        return snapshot

    def refresh(self) -> Snapshot:
        """Read the sums again, here and now."""
        with self._reading:
            began = time.monotonic()
            self._snapshot = snapshot = self._read()
            self._read_at, self._took = began, time.monotonic() - began
        return snapshot

    def accounts_of(self, known: Sequence[Known]) -> list[Account]:
        """Rows of the report, as of now."""
        rows = account_rows(known, self.thresholds, self.snapshot().flag_times)
        return [_account(row) for row in rows]

    def _read(self) -> Snapshot:
        thresholds = self.thresholds
        with self._service.store.reading() as connection:
            states = read_flagged_states(connection, thresholds)
            named = judge(evidence_of(states), thresholds).capabilities if len(states) else []
            return Snapshot(
                flag_times=read_flag_times(connection, thresholds),
                flagged_for=Counter(name for names in named for name in names),
                decisions=count_decisions(connection, thresholds),
                days=read_days(connection),
                flagged_days=read_flagged_days(connection, thresholds),
                families=read_families(connection),
                context=read_context_sums(connection, thresholds),
            )


def standing_of(request: Request) -> Standing:
    standing = request.app.state.standing
    assert isinstance(standing, Standing)
    return standing


def moment_of(us: int) -> datetime:
    """A stored time."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


def _account(row: Mapping[str, Any]) -> Account:
    lists = {"log10_e_targets": "log10_e_", "shares": "share_"}
    own = {name: row[name] for name in Account.__dataclass_fields__ if name in row}
    times = {name: _moment(own[name]) for name in ("first_seen", "last_seen", "flagged_at")}
    arrays = {name: [row[prefix + target] for target in TARGETS] for name, prefix in lists.items()}
    return Account(**{**own, **times, **arrays, "reasons": [], "evidence_event_ids": []})


def _campaign(row: Mapping[str, Any]) -> Campaign:
    times = {name: _moment(row[name]) for name in ("first_seen", "last_seen", "flagged_at")}
    return Campaign(**{**{name: row[name] for name in Campaign.__dataclass_fields__}, **times})


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
