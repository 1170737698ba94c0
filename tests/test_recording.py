"""service/store/recording.py: what is recorded equals a replay, whatever the order, the retries and the lateness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from classifier.evidence import Baselines, Evidence, Replay, replay
from classifier.online import evidence_of
from classifier.rows import rows_of
from classifier.types import LABEL_SCHEMA, TARGETS, UNIT_SCHEMA, Channel
from classifier.units import DAY_US, merge_units
from service.store.codec import Unit, signed, to_unsigned, unit_table
from service.store.opening import Store
from service.store.recording import Fate, read_accounts, record
from tests.stores import new_store

BASELINES = Baselines(0.001, (0.02, 0.05, 0.01, 0.1))
START = 20_000 * DAY_US


class Event(NamedTuple):
    """An event as the labeler might have seen it. `key` of what it asks; `y` a match's target bits; `level` of
    intent."""

    name: str
    account: str
    hour: int
    key: int
    y: int
    level: int


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 120), st.integers(0, 9), st.sampled_from([0, 0, 1, 2]), st.integers(0, 7)
    ),
    min_size=1,
    max_size=25,
).map(lambda drawn: [Event(f"e{i}", f"account-{a}", h, k, y, v) for i, (a, h, k, y, v) in enumerate(drawn)])


def labelled(events: Sequence[Event]) -> tuple[pa.Table, pa.Table]:
    labels, units = [], []
    for event in events:
        own = {"event_id": event.name, "account_id": event.account, "timestamp": START + event.hour * 3_600_000_000}
        family = "seed" if event.y else None
        labels.append(
            own
            | dict.fromkeys(LABEL_SCHEMA.names[4:8], 0.5)
            | {"capability": "coding", "p_coding": 0.5, "template_id": family, "template_family": family}
            | {"unit": event.key, "scaffolds": [2**63 + event.key]}
        )
        nothing = dict.fromkeys((f"level_{name}" for name in TARGETS), 0) | {"y": 0, "y_public": 0, "matched": 0}
        key = 2**64 - 1 - event.key
        signature = {
            "channel": Channel.SIGNATURE,
            "key": key,
            "y": event.y,
            "matched": int(event.y > 0),
            "family": family,
        }
        units.append(own | nothing | signature)
        if not event.y:
            units.append(own | nothing | {"channel": Channel.INTENT, "key": key, "level_coding": event.level})
    return pa.Table.from_pylist(labels, LABEL_SCHEMA), pa.Table.from_pylist(units, UNIT_SCHEMA)


def send(store: Store, events: Sequence[Event]) -> list[Fate]:
    rows = rows_of(*labelled(events))
    with store.writing() as connection:
        return list(record(connection, rows, [True] * len(events), BASELINES, START).fates)


def expected(events: Sequence[Event]) -> Replay:
    return replay(merge_units([labelled(events)[1]]), BASELINES)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with new_store(store_url) as opened:
        yield opened


def assert_equals_replay(store: Store, events: Sequence[Event]) -> None:
    want = expected(events)
    with store.reading() as connection:
        names = want.account_ids.to_pylist()
        known = read_accounts(connection, names)
        states = np.concatenate([known[name].state for name in names])
        records = connection.execute(
            text(
                "SELECT a.account_id, r.us, r.log_max_e FROM records r JOIN accounts a USING (account_no) ORDER BY 1, 2"
            )
        ).all()
        activity = connection.execute(
            text("SELECT a.account_id, t.day, t.us FROM activity t JOIN accounts a USING (account_no) ORDER BY 1, 2")
        ).all()
        stored = connection.execute(
            text("SELECT u.*, a.account_id FROM units u JOIN accounts a USING (account_no)")
        ).all()
    for field in fields(Evidence):
        got = getattr(evidence_of(states), field.name)
        np.testing.assert_allclose(got, getattr(want, field.name), rtol=0, atol=1e-12, err_msg=field.name)
    prompts = {name: sum(event.account == name for event in events) for name in names}
    assert {name: known[name].totals["n_prompts"] for name in names} == prompts
    units = merge_units([unit_table([Unit(*row[:-1]) for row in stored], [row[-1] for row in stored])])
    assert units.equals(merge_units([labelled(events)[1]]))
    assert [tuple(row) for row in activity] == _activity(units)
    rises: dict[tuple[str, int], float] = {}
    for account, us, log_e in zip(want.record_account, want.record_us, want.record_log_e, strict=True):
        if log_e >= 4:
            rises[names[account], int(us)] = float(log_e)
    assert [tuple(row[:2]) for row in records] == list(rises)
    np.testing.assert_allclose([row[2] for row in records], list(rises.values()), rtol=0, atol=1e-12)


def _activity(units: pa.Table) -> list[tuple[str, int, int]]:
    first: dict[tuple[str, int], int] = {}
    for row in units.to_pylist():
        if row["channel"] == Channel.SIGNATURE:
            us = round(row["timestamp"].timestamp() * 1e6)
            first.setdefault((row["account_id"], us // DAY_US), us)
    return sorted((account, day, us) for (account, day), us in first.items())


def empty(store: Store) -> None:
    with store.writing() as connection:
        for name in ("accounts", "states", "events", "units", "activity", "days", "records", "uses"):
            connection.execute(text(f"DELETE FROM {name}"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 6))
def test_any_order_split_and_retry_equals_a_replay(
    store: Store, events: list[Event], random: object, size: int
) -> None:
    empty(store)
    sent = list(events)
    random.shuffle(sent)  # type: ignore[attr-defined]
    for start in range(0, len(sent), size):
        assert send(store, sent[start : start + size]) == [Fate.COUNTED] * len(sent[start : start + size])
        assert set(send(store, sent[: start + size])) == {Fate.KNOWN}
    assert_equals_replay(store, events)


def test_events_in_order_fold_without_a_replay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.recording._replay", None)
    events = [Event(f"e{i:02}", f"account-{i % 2}", 7 * i, i, int(i % 3 == 0), i % 8) for i in range(30)]
    for start in range(0, 30, 4):
        send(store, events[start : start + 4])
    assert_equals_replay(store, events)


def test_an_id_that_another_account_used_is_told_apart(store: Store) -> None:
    assert send(store, [Event("same", "ann", 1, 1, 1, 0)]) == [Fate.COUNTED]
    assert send(store, [Event("same", "bob", 1, 2, 0, 7), Event("own", "ann", 2, 3, 0, 7)]) == [
        Fate.FOREIGN,
        Fate.COUNTED,
    ]
    with store.reading() as connection:
        assert connection.execute(text("SELECT account_id, n_prompts FROM accounts")).all() == [("ann", 2)]


def test_keys_keep_all_64_bits() -> None:
    keys = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    assert [signed(key) for key in keys] == [0, 1, 2**63 - 1, -(2**63), -1]
    assert to_unsigned(map(signed, keys)).tolist() == keys
