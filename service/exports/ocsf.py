"""A labelled run's accounts as OCSF Detection Findings (class 2004), one JSON object a line, for a SIEM.

    report_data.Selected -> **ocsf** -> JSONL

Accounts and events are pseudonyms, and the sentences of `reasons` stay at home: whoever agreed to an exception is named
in them. OCSF's `confidence` is left out, since no such number was measured; what may be promised is `fdr_bound`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from classifier.types import TARGETS, Decision
from service.exports.atlas import ACCESS, EXTRACT, TECHNIQUES
from service.exports.pseudonyms import Pseudonyms
from service.report_types import Account, Facts, Selected
from service.report_words import aims_of, exponent, percent
from service.versions import version_of

SCHEMA_VERSION = "1.7.0"
_CREATE = 1
_STATISTICAL = 3
_LOW, _HIGH = 2, 4
_NEW = 1


def ocsf_lines(selected: Selected, pseudonyms: Pseudonyms) -> Iterator[bytes]:
    """A line for each account, most suspicious first."""
    version = version_of("probewatch")
    for account in selected.accounts:
        document = _finding(account, selected.facts, pseudonyms, version)
        yield (json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _finding(account: Account, facts: Facts, pseudonyms: Pseudonyms, version: str) -> dict[str, Any]:
    name = pseudonyms.account(account.account_id)
    is_flag = account.decision == Decision.FLAG
    found = account.flagged_at if account.flagged_at is not None else account.last_seen
    product = {"name": "probewatch", "vendor_name": "probewatch", "version": version}
    return {
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "activity_id": _CREATE,
        "activity_name": "Create",
        "type_uid": 200400 + _CREATE,
        "type_name": "Detection Finding: Create",
        "time": _ms(found),
        "start_time": _ms(account.first_seen),
        "end_time": _ms(account.last_seen),
        "timezone_offset": 0,
        "count": account.n_prompts,
        "severity_id": _HIGH if is_flag else _LOW,
        "severity": "High" if is_flag else "Low",
        "status_id": _NEW,
        "status": "New",
        "is_alert": is_flag,
        "message": _message(account),
        "metadata": {"version": SCHEMA_VERSION, "product": product, "uid": f"{name}-{_ms(account.last_seen)}"},
        "finding_info": {
            "uid": name,
            "title": _title(account),
            "types": ["model extraction"],
            "desc": _message(account),
            "created_time": _ms(found),
            "first_seen_time": _ms(account.first_seen),
            "last_seen_time": _ms(account.last_seen),
            "analytic": {
                "uid": "probewatch-account-verdict",
                "name": "probewatch account verdict",
                "type_id": _STATISTICAL,
                "type": "Statistical",
                "version": version,
            },
            "attacks": [_attack(number) for number in (EXTRACT, ACCESS)],
        },
        "evidences": [
            {
                "name": "strongest events",
                "actor": {"user": {"uid": name}},
                "data": {"event_uids": [pseudonyms.event(id) for id in account.evidence_event_ids]},
            }
        ],
        "unmapped": _unmapped(account, facts),
    }


def _title(account: Account) -> str:
    verb = "probes" if account.decision == Decision.FLAG else "may probe"
    return f"An account {verb} the model for {aims_of(account.capabilities)}"


def _message(account: Account) -> str:
    is_flag = account.decision == Decision.FLAG
    evidence = exponent(account.log10_max_e if is_flag else account.log10_e)
    family = f", most often {account.top_template_family}" if account.top_template_family is not None else ""
    return (
        f"{_title(account)}: evidence of 10^{evidence}, where a flag takes 10^{exponent(account.log10_threshold)}; "
        f"{percent(account.template_rate)} of {account.n_prompts:,} prompts match known templates{family}."
    )


def _attack(number: int) -> dict[str, Any]:
    technique = TECHNIQUES[number]
    cited = {"uid": technique.id, "name": technique.name, "src_url": technique.url}
    return {"sub_technique" if technique.is_sub else "technique": cited}


def _unmapped(account: Account, facts: Facts) -> dict[str, Any]:
    """What OCSF has no place for, in the words of accounts.parquet and run.json."""
    evidence = dict(zip(TARGETS, account.log10_e_targets, strict=True))
    numbers = {
        "log10_e": account.log10_e,
        "log10_max_e": account.log10_max_e,
        "log10_threshold": account.log10_threshold,
        **{f"log10_e_{target}": value for target, value in evidence.items()},
        "template_rate": account.template_rate,
        "fdr_bound": facts.fdr_bound,
    }
    return {
        "decision": account.decision,
        "basis": account.basis,
        "capabilities": account.capabilities,
        "techniques": account.techniques,
        "top_template_family": account.top_template_family,
        "campaign_id": account.campaign_id,
        "review_state": account.review_state,
        "n_prompts": account.n_prompts,
        "n_units": account.n_units,
        **{name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()},
        "bundle_id": facts.bundle_id,
        "catalogue_id": facts.catalogue_id,
    }


def _ms(when: datetime) -> int:
    """Milliseconds since 1970, as OCSF has times."""
    return math.floor(when.timestamp() * 1000)
