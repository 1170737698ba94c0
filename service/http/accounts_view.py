"""What is said of an account in full: a row of accounts.parquet as JSON, and why. Stands after `service`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import log
from typing import Any

from classifier.evidence import Baselines
from classifier.online import evidence_of, stack_states
from classifier.reachback import review_places
from classifier.types import LEVELS, TARGETS, Channel, Decision
from classifier.units import DAY_US
from classifier.verdicts import Thresholds, judge
from service.http.published import iso
from service.reasons import MOST_EVENTS, Case, FamilyUse, IntentUse, reasons_of
from service.store.codec import Unit, levels_of
from service.store.reading import Known, Review

_PER_LOG10 = log(10)


def account_rows(known: Sequence[Known], thresholds: Thresholds, flagged_at: Mapping[int, int]) -> list[dict[str, Any]]:
    """Rows of ACCOUNT_SCHEMA, without reasons and events."""
    if not known:
        return []
    evidence = evidence_of(stack_states([one.state for one in known]))
    links = {i: one.links for i, one in enumerate(known) if one.links}
    found, now = review_places(judge(evidence, thresholds), links), time.time_ns() // 1000
    rows = []
    for i, one in enumerate(known):
        totals, basis = one.totals, found.basis[i]
        n, by_target = max(totals["n_prompts"], 1), (evidence.log_e_target[i] / _PER_LOG10).tolist()
        at = flagged_at.get(totals["account_no"]) if found.flagged[i] else None
        rows.append(
            {
                "account_id": totals["account_id"],
                "n_prompts": totals["n_prompts"],
                "n_units": int(evidence.n_units[i]),
                "first_seen": moment(totals["first_seen"]),
                "last_seen": moment(totals["last_seen"]),
                "decision": str(found.decision[i]),
                "basis": str(basis) if basis is not None else None,
                "capabilities": list(found.capabilities[i]),
                "log10_e": float(evidence.log_e[i]) / _PER_LOG10,
                "log10_max_e": float(evidence.log_max_e[i]) / _PER_LOG10,
                "log10_threshold": thresholds.log_flag / _PER_LOG10,
                **{f"log10_e_{name}": value for name, value in zip(TARGETS, by_target, strict=True)},
                **{f"share_{name}": totals[f"n_{name}"] / n for name in TARGETS},
                "template_rate": totals["n_matched"] / n,
                "top_template_family": one.families[0] if one.families else None,
                "techniques": list(one.techniques),
                "campaign_id": one.campaign_id,
                "flagged_at": moment(at) if at is not None else None,
                "review_state": one.review_state(now),
            }
        )
    return rows


def account_detail(
    known: Known,
    units: Sequence[Unit],
    thresholds: Thresholds,
    flagged_at: Mapping[int, int],
    baselines: Baselines,
    campaign_accounts: int,
) -> dict[str, Any]:
    """A row with its reasons, the events that say most, and its reviews."""
    (row,) = account_rows([known], thresholds, flagged_at)
    case = Case(
        decision=Decision(row["decision"]),
        capabilities=row["capabilities"],
        n_units=row["n_units"],
        exclusive=_family_use([unit for unit in units if unit.y]),
        public=_family_use([unit for unit in units if unit.y_public and not unit.y]),
        intent=_intent_use([unit for unit in units if unit.channel == Channel.INTENT]),
        campaign=row["campaign_id"],
        n_campaign_accounts=campaign_accounts if known.is_counted else 0,
        excused=[(one.agreed, one.n_units) for one in known.exempted if one.n_units],
        links=known.links,
    )
    judged = case.decision in (Decision.FLAG, Decision.REVIEW)
    return {
        **row,
        "reasons": reasons_of(case, baselines, thresholds.minimum_units),
        "evidence_event_ids": _strongest(units) if judged else [],
        "reviews": [review_row(one) for one in known.reviews],
    }


def review_row(review: Review) -> dict[str, Any]:
    until = moment(review.until) if review.until is not None else None
    return {**vars(review), "until": until, "at": moment(review.at)}


def moment(us: int) -> str:
    """Microseconds since 1970 in ISO 8601."""
    return iso(datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000))


def _family_use(units: Sequence[Unit]) -> FamilyUse | None:
    named = [unit for unit in units if unit.family is not None]
    if not named:
        return None
    families = Counter(unit.family for unit in named if unit.family is not None)
    by_family = sorted(families.items(), key=lambda pair: (-pair[1], pair[0]))
    return FamilyUse(len(named), len({unit.us // DAY_US for unit in named}), by_family)


def _intent_use(units: Sequence[Unit]) -> IntentUse | None:
    if not units:
        return None
    levels = [levels_of(unit) for unit in units]
    means = tuple(sum(column) / (LEVELS * len(units)) for column in zip(*levels, strict=True))
    return IntentUse(len(units), means)


def _strongest(units: Sequence[Unit]) -> list[str]:
    """Ids of the events that say most, matches first."""
    telling = [unit for unit in units if unit.y or unit.y_public or unit.levels]
    ranked = sorted(telling, key=lambda u: (not u.y, not u.y_public, -max(levels_of(u)), u.us, u.event_id))
    return [unit.event_id for unit in ranked[:MOST_EVENTS]]
