"""Recording what was labelled: events once, units as a set, every account's state. One transaction's worth of work.

    schema, codec, statements -> **recording** -> http

The lock on an account's row orders all that writes to it, here and in other processes. A unit in event order is folded
into the state; what comes late, or moves a unit to an earlier event, has the account's units replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import Any

import numpy as np
from sqlalchemy import Connection

from classifier.evidence import Baselines
from classifier.online import STATE, Folded, States, Steps, empty_states, fold, stack_states
from classifier.rows import LabelRow, Rows
from classifier.types import Channel
from classifier.units import DAY_US
from service.context import Context
from service.store.codec import EventKey, Unit, count_units, event_key, signed, units_of
from service.store.context import record_context
from service.store.exemptions import excused
from service.store.schema import COUNTED, LEAST_LOG_M, accounts, records, states, units, uses
from service.store.statements import fetch, upsert, write_many
from service.store.traffic import record_traffic

MOST_LOG_M = 30
"""Beyond this M every population is flagged by, up to a billion accounts; later rises decide nothing."""

_SEEN = """
SELECT e.id_high, e.id_low, e.account_no FROM {keys}
JOIN events e ON e.id_high = CAST(k.value ->> 0 AS BIGINT) AND e.id_low = CAST(k.value ->> 1 AS BIGINT)
"""
_COLUMNS = [column.name for column in accounts.columns]
_ACCOUNTS = f"""
SELECT {", ".join(f"a.{name}" for name in _COLUMNS)}, s.state, s.last_event FROM {{keys}}
JOIN accounts a ON a.account_id = CAST(k.value ->> 0 AS TEXT) LEFT JOIN states s ON s.account_no = a.account_no
"""
_IDS = "SELECT a.account_id FROM {keys} JOIN accounts a ON a.account_no = CAST(k.value ->> 0 AS BIGINT)"
_UNIT = ", ".join(f"u.{name}" for name in Unit._fields)
_ALL_UNITS = f"SELECT {_UNIT} FROM {{keys}} JOIN units u ON u.account_no = CAST(k.value ->> 0 AS BIGINT)"
_LOCK = (
    "SELECT a.account_no FROM {keys} JOIN accounts a ON a.account_id = CAST(k.value ->> 0 AS TEXT) "
    "ORDER BY a.account_no FOR UPDATE OF a"
)
_UNITS = f"""
SELECT {_UNIT} FROM {{keys}}
JOIN units u ON u.account_no = CAST(k.value ->> 0 AS BIGINT) AND u.channel = CAST(k.value ->> 1 AS SMALLINT)
            AND u.key = CAST(k.value ->> 2 AS BIGINT)
"""
_NEW_ACCOUNT = (
    f"INSERT INTO accounts (account_id, n_prompts, {', '.join(COUNTED)}, first_seen, last_seen, n_units, log_max_e, "
    f"log_review) VALUES (?, 0, {', '.join('0' for _ in COUNTED)}, ?, ?, 0, 0, 0) ON CONFLICT (account_id) DO NOTHING"
)
_TOTALS = [name for name in _COLUMNS if name not in ("account_no", "account_id")]
_totals_of = itemgetter(*_TOTALS)
_UPDATE_ACCOUNT = f"UPDATE accounts SET {', '.join(f'{name} = ?' for name in _TOTALS)} WHERE account_no = ?"
_NEW_EVENT = "INSERT INTO events (id_high, id_low, account_no, received) VALUES (?, ?, ?, ?)"
_UPSERT_UNIT, _UPSERT_STATE, _UPSERT_RECORD = upsert(units), upsert(states), upsert(records)
_CHOSEN = "CASE WHEN uses.{0} {1} excluded.{0} THEN uses.{0} ELSE excluded.{0} END"
_UPSERT_USE = upsert(
    uses,
    {
        "n_prompts": "uses.n_prompts + excluded.n_prompts",
        "first_seen": _CHOSEN.format("first_seen", "<"),
        "last_seen": _CHOSEN.format("last_seen", ">"),
    },
)
_NO_STATE = empty_states(1).tobytes()
_OF_STATE = ("n_units", "log_max_e", "log_review")
_NEW_ACTIVITY = "INSERT INTO activity (day, account_no, us) VALUES (?, ?, ?) ON CONFLICT (day, account_no) DO NOTHING"
_CHANGED_DAY = (
    "INSERT INTO days (day, changes) VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET changes = days.changes + 1"
)


class Fate(Enum):
    """What became of an event."""

    COUNTED = "counted"
    KNOWN = "known"  # a retry: its id was counted before
    FOREIGN = "foreign"  # its id was counted before for another account


@dataclass
class Account:
    """An account's row and state, within a transaction. `last`: (time, event_id) of what is folded last; before
    everything without a unit."""

    number: int
    totals: dict[str, Any]
    state: States  # [1]
    last: tuple[int, str]


_NOTHING = (-1, "")


@dataclass(frozen=True)
class Recorded:
    """What became of each event, and its account as it is now: None only of foreign ones."""

    fates: Sequence[Fate]
    accounts: Sequence[Account | None]


@dataclass(frozen=True)
class _Changes:
    """What a transaction changes: new units, accounts whose units must be replayed, and days that look different."""

    new: Sequence[Unit]
    late: set[int]
    days: set[int]


def record(
    connection: Connection,
    labelled: Rows,
    supplied: Sequence[bool],
    baselines: Baselines,
    now: int,
    contexts: Sequence[Context | None] = (),
) -> Recorded:
    """Record labelled events and their units, in a transaction that the caller commits.

    Event ids are distinct; `supplied` [events]: whether the id came with the event, so that it may come again;
    `contexts` [events]: what is shown beside it, or nothing at all.
    """
    names = [label.account_id for label in labelled.labels]
    keys = [event_key(row.event_id) if own else None for row, own in zip(labelled.labels, supplied, strict=True)]
    seen = _seen(connection, [key for key in keys if key is not None])
    new = [i for i, key in enumerate(keys) if key not in seen]
    labels, observed = [labelled.labels[i] for i in new], labelled.units
    if len(new) < len(names):
        ids = {label.event_id for label in labels}
        observed = [row for row in observed if row.event_id in ids]
    known = _opened(connection, names, labels)
    own = [known[label.account_id] for label in labels]
    events = [(*key, one.number, now) for i, one in zip(new, own, strict=True) if (key := keys[i]) is not None]
    write_many(connection, _NEW_EVENT, events)
    touched = {one.number: one for one in own}
    rows = units_of(observed, [known[row.account_id].number for row in observed])
    _advance(connection, _store_units(connection, rows, touched), touched, baselines)
    numbers = [one.number for one in own]
    _add_up(labels, own)
    _record_uses(connection, labels, numbers)
    record_traffic(connection, labels, numbers)
    if contexts:
        record_context(connection, labels, numbers, [contexts[i] for i in new])
    write_many(connection, _UPDATE_ACCOUNT, [_totals_row(one) for one in touched.values()])
    fates = [_fate(seen, key, known.get(name)) for key, name in zip(keys, names, strict=True)]
    return Recorded(fates, [known.get(name) for name in names])


def read_accounts(connection: Connection, names: Iterable[str]) -> dict[str, Account]:
    """Accounts by id, those that are known; in PostgreSQL their rows are locked until the transaction ends."""
    keys, found = [(name,) for name in dict.fromkeys(names)], {}
    if connection.dialect.name == "postgresql":  # first, on its own: a join would show states as of before the wait
        fetch(connection, _LOCK, keys)
    rows = fetch(connection, _ACCOUNTS, keys) if keys else []
    stored = [state if state is not None else _NO_STATE for *_, state, _ in rows]
    states = np.frombuffer(b"".join(stored), STATE)
    times = zip(states["us"].tolist(), states["day"].tolist(), strict=True)
    for i, ((*values, _, last_event), (us, day)) in enumerate(zip(rows, times, strict=True)):
        totals = dict(zip(_COLUMNS, values, strict=True))
        last = (us, last_event) if day >= 0 else _NOTHING
        found[totals["account_id"]] = Account(totals["account_no"], totals, states[i : i + 1], last)
    return found


def _totals_row(account: Account) -> tuple[Any, ...]:
    return (*_totals_of(account.totals), account.number)


def _seen(connection: Connection, keys: Sequence[EventKey]) -> dict[EventKey | None, int]:
    """Accounts of the events that were counted before."""
    rows = fetch(connection, _SEEN, keys) if keys else []
    return {EventKey(high, low): number for high, low, number in rows}


def _fate(seen: Mapping[EventKey | None, int], key: EventKey | None, account: Account | None) -> Fate:
    if key not in seen:
        return Fate.COUNTED
    return Fate.KNOWN if account is not None and account.number == seen[key] else Fate.FOREIGN


def _opened(connection: Connection, names: Sequence[str], labels: Sequence[LabelRow]) -> dict[str, Account]:
    """Accounts by id; those with new events, `labels`, have a row made if they have none."""
    known = read_accounts(connection, names)
    first = {label.account_id: label.us for label in reversed(labels) if label.account_id not in known}
    if first:
        write_many(connection, _NEW_ACCOUNT, [(name, us, us) for name, us in sorted(first.items())])
        known |= read_accounts(connection, first)
    return known


def _store_units(connection: Connection, rows: Sequence[Unit], own: Mapping[int, Account]) -> _Changes:
    """Store the rows that are new to the set of units."""
    best: dict[tuple[int, int, int], Unit] = {}
    for row in rows:
        known = best.get(row[:3])
        if known is None or row.rank < known.rank:
            best[row[:3]] = row
    stored = {row[:3]: Unit(*row) for row in fetch(connection, _UNITS, list(best))}
    moved = [row for key, row in best.items() if key in stored and row.rank < stored[key].rank]
    new = [row for key, row in best.items() if key not in stored]
    write_many(connection, _UPSERT_UNIT, new + moved)
    late = {row.account_no for row in moved}
    late |= {row.account_no for row in new if (row.us, row.event_id) <= own[row.account_no].last}
    days = {row.us // DAY_US for row in new + moved if row.matched and not row.y_public}
    days |= {stored[row[:3]].us // DAY_US for row in moved}
    return _Changes(new, late, days)


def _advance(connection: Connection, changes: _Changes, own: Mapping[int, Account], baselines: Baselines) -> None:
    """Bring the states of accounts up to date with their units, and what follows from them."""
    days = set(changes.days)
    timely = [row for row in changes.new if row.account_no not in changes.late]
    if timely:
        days |= _begin_days(connection, timely, own)
        _fold(connection, timely, own, baselines)
    if changes.late:
        days |= _replay(connection, {number: own[number] for number in changes.late}, baselines)
    write_many(connection, _CHANGED_DAY, [(day,) for day in sorted(days)])


def _fold(connection: Connection, rows: Sequence[Unit], own: Mapping[int, Account], baselines: Baselines) -> None:
    """Fold units, none of them late, into the states of their accounts, and store these."""
    rows = sorted(excused(connection, rows), key=lambda row: (row.account_no, row.us, row.event_id))
    events = [(row.account_no, row.us, row.event_id) for row in rows]
    begun = [i for i, event in enumerate(events) if i == 0 or event != events[i - 1]]
    places = {events[row]: place for place, row in enumerate(begun)}
    order = {account: i for i, account in enumerate(dict.fromkeys(row.account_no for row in rows))}
    steps = Steps(
        account=np.array([order[rows[i].account_no] for i in begun], np.int64),
        us=np.array([rows[i].us for i in begun], np.int64),
        counts=count_units(rows, [places[event] for event in events], len(begun)),
    )
    affected = [own[account] for account in order]
    before = stack_states([one.state for one in affected])
    folded = fold(before, steps, baselines)
    for row in rows:
        own[row.account_no].last = row.us, row.event_id
    known = [folded.states[name].tolist() for name in _OF_STATE]
    for i, (one, *values) in enumerate(zip(affected, *known, strict=True)):
        one.state = folded.states[i : i + 1]
        one.totals.update(zip(_OF_STATE, values, strict=True))
    write_many(
        connection,
        _UPSERT_STATE,
        [(one.number, one.state.tobytes(), one.last[1]) for one in affected],
    )
    write_many(connection, _UPSERT_RECORD, _record_rows(folded, list(order), before))


def _record_rows(folded: Folded, numbers: Sequence[int], before: States) -> list[tuple[int, int, float]]:
    """Rises of M that may decide when an account was flagged."""
    found, highest = {}, before["log_max_e"].tolist()
    columns = (folded.record_account, folded.record_us, folded.record_log_e)
    for account, us, log_e in zip(*(column.tolist() for column in columns), strict=True):
        if log_e >= LEAST_LOG_M and highest[account] < MOST_LOG_M:
            found[account, us] = (numbers[account], us, log_e)
        highest[account] = log_e
    return list(found.values())


def _begin_days(connection: Connection, rows: Sequence[Unit], own: Mapping[int, Account]) -> set[int]:
    """Note the accounts that become active on a day by these units, none of them late; which days these are."""
    first: dict[tuple[int, int], int] = {}
    for row in rows:
        if row.channel == Channel.SIGNATURE:
            key = (row.us // DAY_US, row.account_no)
            first[key] = min(first.get(key, row.us), row.us)
    new = {key: us for key, us in first.items() if not _is_active(own[key[1]], key[0])}
    write_many(connection, _NEW_ACTIVITY, [(*key, us) for key, us in sorted(new.items())])
    return {day for day, _ in new}


def _is_active(account: Account, day: int) -> bool:
    state = account.state[0]
    return bool(state["day"] == day and state["counts"][0])


def _replay(connection: Connection, late: Mapping[int, Account], baselines: Baselines) -> set[int]:
    """Make the states of accounts anew from all of their units; which days look different since."""
    for name in ("records", "activity"):
        write_many(connection, f"DELETE FROM {name} WHERE account_no = ?", [(number,) for number in late])
    for one in late.values():
        one.state, one.last = empty_states(1), _NOTHING
    rows = [Unit(*row) for row in fetch(connection, _ALL_UNITS, [(number,) for number in late])]
    days = _begin_days(connection, rows, late)
    if rows:
        _fold(connection, rows, late, baselines)
    return days


def _add_up(labels: Sequence[LabelRow], own: Sequence[Account]) -> None:
    """Add events to the totals of their accounts."""
    for label, account in zip(labels, own, strict=True):
        totals = account.totals
        totals["n_prompts"] += 1
        totals[f"n_{label.capability}"] += 1
        totals["n_matched"] += label.match is not None
        totals["first_seen"] = min(totals["first_seen"], label.us)
        totals["last_seen"] = max(totals["last_seen"], label.us)


def _record_uses(connection: Connection, labels: Sequence[LabelRow], numbers: Sequence[int]) -> None:
    """Add events that match a family to what is known of who uses it."""
    made = [
        (
            number,
            label.match.family,
            label.match.technique if label.match.technique is not None else "",
            signed(label.scaffold),
            1,
            label.us,
            label.us,
        )
        for label, number in zip(labels, numbers, strict=True)
        if label.match is not None
    ]
    write_many(connection, _UPSERT_USE, made)


def replay_accounts(connection: Connection, numbers: Sequence[int], baselines: Baselines) -> None:
    """Make the states of accounts anew from their units, as after a change of baselines."""
    names = fetch(connection, _IDS, [(number,) for number in numbers])
    known = {one.number: one for one in read_accounts(connection, [name for (name,) in names]).values()}
    days = _replay(connection, known, baselines)
    write_many(connection, _UPDATE_ACCOUNT, [_totals_row(one) for one in known.values()])
    write_many(connection, _CHANGED_DAY, [(day,) for day in sorted(days)])
