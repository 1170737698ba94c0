"""Context by account: models by day, organisations, and about how many end users. Counts of events, never evidence.

Beneath `recording`, which adds to them, and the console, which shows them. Stands after `statements` and `sketch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from classifier.rows import LabelRow
from classifier.units import DAY_US
from service.context import Context
from service.store.schema import account_models, account_organisations, end_users, model_days
from service.store.sketch import EMPTY, added, count
from service.store.statements import lookup, upsert, write_many
from service.store.traffic import PARTS

_SUMS = ("n_prompts", "n_matched")
_CHOSEN = "CASE WHEN {0}.{1} {2} excluded.{1} THEN {0}.{1} ELSE excluded.{1} END"
_ORGANISATIONS = account_organisations.name
_ADD_MODEL, _ADD_DAY = (
    upsert(table, {name: f"{table.name}.{name} + excluded.{name}" for name in _SUMS})
    for table in (account_models, model_days)
)
_ADD_ORGANISATION = upsert(
    account_organisations,
    {
        **{name: f"{_ORGANISATIONS}.{name} + excluded.{name}" for name in _SUMS},
        "first_seen": _CHOSEN.format(_ORGANISATIONS, "first_seen", "<"),
        "last_seen": _CHOSEN.format(_ORGANISATIONS, "last_seen", ">"),
    },
)
_SET_SKETCH = upsert(end_users)
_SKETCHES = "SELECT e.account_no, e.sketch FROM {keys} JOIN end_users e ON e.account_no = CAST(k.value ->> 0 AS BIGINT)"


class _Event(NamedTuple):
    account_no: int
    us: int
    matched: bool
    context: Context


def record_context(
    connection: Connection, labels: Sequence[LabelRow], numbers: Sequence[int], contexts: Sequence[Context | None]
) -> None:
    """Count events that are new. `numbers` [events]: account_no of each; `contexts` [events]."""
    if not any(contexts):
        return
    rows = zip(labels, numbers, contexts, strict=True)
    events = [
        _Event(number, label.us, label.match is not None, context)
        for label, number, context in rows
        if context is not None
    ]
    _count_models(connection, [one for one in events if one.context.model is not None])
    _count_organisations(connection, [one for one in events if one.context.org_id is not None])
    _count_users(connection, [one for one in events if one.context.end_user is not None])


def _count_models(connection: Connection, events: Sequence[_Event]) -> None:
    of_accounts, of_days = _Sums(), _Sums()
    for number, us, matched, context in events:
        of_accounts.add((number, us // DAY_US, context.model), matched)
        of_days.add((us // DAY_US, context.model, number % PARTS), matched)
    write_many(connection, _ADD_MODEL, of_accounts.rows())
    write_many(connection, _ADD_DAY, of_days.rows())


def _count_organisations(connection: Connection, events: Sequence[_Event]) -> None:
    sums, first, last = _Sums(), dict[tuple[object, ...], int](), dict[tuple[object, ...], int]()
    for number, us, matched, context in events:
        key = (number, context.org_id)
        sums.add(key, matched)
        first[key], last[key] = min(first.get(key, us), us), max(last.get(key, us), us)
    write_many(connection, _ADD_ORGANISATION, [(*row, first[row[:2]], last[row[:2]]) for row in sums.rows()])


def _count_users(connection: Connection, events: Sequence[_Event]) -> None:
    """Add to the sketches of accounts, whose rows the transaction has locked."""
    seen: dict[int, set[int]] = {}
    for number, _, _, context in events:
        seen.setdefault(number, set()).add(context.end_user)  # type: ignore[arg-type]
    if not seen:
        return
    known: Mapping[int, bytes] = dict(lookup(connection, _SKETCHES, [(n,) for n in seen]))
    after = {number: added(known.get(number, EMPTY), own) for number, own in sorted(seen.items())}
    rows = [(number, one, count(one)) for number, one in after.items() if one != known.get(number)]
    write_many(connection, _SET_SKETCH, rows)


class _Sums:
    """Prompts, and those that match a template, by key."""

    def __init__(self) -> None:
        self._all, self._matched = Counter[tuple[object, ...]](), Counter[tuple[object, ...]]()

    def add(self, key: tuple[object, ...], matched: bool) -> None:
        self._all[key] += 1
        self._matched[key] += matched

    def rows(self) -> list[tuple[object, ...]]:
        """(*key, prompts, matched), in one order, so that processes that write at once do not wait in a circle."""
        return [(*key, n, self._matched[key]) for key, n in sorted(self._all.items())]
