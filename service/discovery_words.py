"""Findings in words and as JSON: what `probewatch templates discover` prints. Pure functions."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from service.discovery import Finding, Found
from service.report_words import counted, moment, percent

_WIDTH = 80
_NAMES = {"intent": "p_extraction"}  # as in the run's files


def as_json(found: Found) -> dict[str, Any]:
    """Everything but wordings, which are for the terminal."""
    looked_at = {"accounts": found.n_accounts, "prompts": found.n_prompts, "known": found.n_known}
    return {"looked_at": looked_at, "findings": [_finding(finding) for finding in found.findings]}


def found_lines(found: Found) -> Iterator[str]:
    """What was looked at, then each finding."""
    looked_at = f"{counted(found.n_prompts, 'unexplained prompt')} of {counted(found.n_accounts, 'account')}"
    if not found.findings:
        yield f"Nothing found: among {looked_at} no wording that no signature explains is shared by 5 accounts."
    else:
        yield f"{counted(len(found.findings), 'wording')} shared among {looked_at}:"
    if found.n_known:
        yield f"Left out: {counted(found.n_known, 'wording')} that signatures added since the run explain."
    for finding in found.findings:
        yield from _lines(finding)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "rank": finding.rank,
        "strength": round(finding.facets.strength, 4),
        "first_seen": finding.first_seen.isoformat(),
        "last_seen": finding.last_seen.isoformat(),
        "shingles": finding.n_shingles,
        **{_NAMES.get(name, name): round(value, 4) for name, value in asdict(finding.facets).items()},
    }


def _lines(finding: Finding) -> Iterator[str]:
    facets = finding.facets
    yield f"{finding.rank}. {finding.id}"
    yield _row("sent by", f"{counted(facets.n_accounts, 'account')}, in {counted(facets.n_prompts, 'distinct prompt')}")
    yield _row("seen", f"{moment(finding.first_seen)} to {moment(finding.last_seen)}")
    yield _row("extraction", f"{percent(facets.intent)} probable in the median account")
    yield _row("payloads", f"{percent(facets.diversity)} distinct")
    yield _row("growth", f"{facets.growth:.1f} times as many accounts in the last quarter")
    yield _row("constant", f"{counted(finding.n_shingles, 'run')} of three words")
    yield from textwrap.wrap(finding.wording, _WIDTH, initial_indent=_row("wording", ""), subsequent_indent=" " * 16)


def _row(name: str, value: str) -> str:
    return f"   {name:<13}{value}"
