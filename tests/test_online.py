"""classifier/online.py: folding equals replaying, however events are cut into steps."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from classifier.evidence import Baselines, Evidence, replay
from classifier.online import COUNTS, STATE, Folded, Steps, empty_states, evidence_of, fold
from classifier.types import TARGETS, UNIT_SCHEMA, Channel
from classifier.units import DAY_US, merge_units

BASELINES = Baselines(0.001, (0.02, 0.05, 0.01, 0.1))
UNIT = st.tuples(
    st.integers(0, 2),  # account
    st.sampled_from([Channel.SIGNATURE, Channel.INTENT]),
    st.integers(0, 3 * DAY_US // 3_600_000_000),  # hour
    st.sampled_from([0, 0, 1, 2, 0b1001]),  # y
    st.sampled_from([0, 0, 4]),  # y_public
    st.tuples(*[st.integers(0, 7)] * len(TARGETS)),
)
Drawn = list[tuple[int, int, int, int, int, tuple[int, ...]]]


def _units(drawn: Drawn) -> pa.Table:
    rows = []
    for key, (account, channel, hour, y, y_public, levels) in enumerate(drawn):
        signature = channel == Channel.SIGNATURE
        rows.append(
            {
                "account_id": f"account-{account}",
                "channel": channel,
                "key": key,
                "timestamp": hour * 3_600_000_000 * 9,
                "event_id": f"event-{hour:03}",
                "y": y * signature,
                "y_public": y_public * signature,
                "matched": int(signature and (y | y_public) > 0),
                **{f"level_{name}": level * (not signature) for name, level in zip(TARGETS, levels, strict=True)},
                "family": None,
            }
        )
    return merge_units([pa.Table.from_pylist(rows, UNIT_SCHEMA)])


def _steps(units: pa.Table) -> Steps:
    """Steps of merged units, of accounts that are all there."""
    rows = units.to_pylist()
    keys = sorted({(row["account_id"], row["timestamp"], row["event_id"]) for row in rows})
    accounts = sorted({key[0] for key in keys})
    counts = np.zeros((len(keys), COUNTS), np.int64)
    for row in rows:
        at = counts[keys.index((row["account_id"], row["timestamp"], row["event_id"]))]
        if row["channel"] == Channel.SIGNATURE:
            at[0] += 1
        for c, name in enumerate(TARGETS):
            at[1 + c] += row["y"] >> c & 1
            at[5 + c] += (row["y"] | row["y_public"]) >> c & 1
            if row["channel"] == Channel.INTENT:
                at[9 + 8 * c + row[f"level_{name}"]] += 1
    us = np.array([int(key[1].timestamp() * 1e6) for key in keys], np.int64)
    return Steps(np.array([accounts.index(key[0]) for key in keys], np.int64), us, counts)


def _pieces(steps: Steps, cut: int) -> Folded:
    """The steps of three accounts folded in two pieces: those before an index, then the rest."""
    n = int(steps.account.max()) + 1
    states, records = empty_states(n), []
    for rows in (np.arange(len(steps.us)) < cut, np.arange(len(steps.us)) >= cut):
        here, dense = np.unique(steps.account[rows], return_inverse=True)
        if len(here):
            folded = fold(states[here], Steps(dense, steps.us[rows], steps.counts[rows]), BASELINES)
            states[here] = folded.states
            records += list(zip(here[folded.record_account], folded.record_us, folded.record_log_e, strict=True))
    account, us, log_e = (np.array(column) for column in zip(*sorted(records), strict=True))
    return Folded(states, account, us, log_e)


@given(st.lists(UNIT, min_size=1, max_size=40), st.integers(0, 40))
def test_folding_in_pieces_equals_a_replay(drawn: Drawn, cut: int) -> None:
    units = _units(drawn)
    expected, folded = replay(units, BASELINES), _pieces(_steps(units), cut)
    found = evidence_of(folded.states)
    for field in fields(Evidence):
        np.testing.assert_allclose(getattr(found, field.name), getattr(expected, field.name), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(folded.record_account, expected.record_account)
    np.testing.assert_array_equal(folded.record_us, expected.record_us)
    np.testing.assert_allclose(folded.record_log_e, expected.record_log_e, rtol=0, atol=1e-12)


def test_folding_leaves_the_state_it_was_given() -> None:
    steps = _steps(_units([(0, Channel.SIGNATURE, 1, 1, 0, (0, 0, 0, 0))]))
    before = empty_states(1)
    fold(before, steps, BASELINES)
    assert before.tobytes() == empty_states(1).tobytes()


def test_a_state_is_its_bytes() -> None:
    steps = _steps(_units([(0, Channel.SIGNATURE, 1, 1, 0, (0, 0, 0, 0)), (0, Channel.INTENT, 9, 0, 0, (7, 1, 0, 0))]))
    states = fold(empty_states(1), steps, BASELINES).states
    assert np.frombuffer(states.tobytes(), STATE) == states
    assert len(states.tobytes()) == STATE.itemsize < 1200


def test_one_match_by_hand() -> None:
    """The first day's first unit is a match aimed at coding: half of the wealth starts, spread over seven bets."""
    steps = _steps(_units([(0, Channel.SIGNATURE, 0, 1, 0, (0, 0, 0, 0))]))
    state = fold(empty_states(1), steps, BASELINES).states[0]
    bets = np.array([0.002, 0.02, 0.05, 0.12, 0.25, 0.5, 0.8])
    coding = 0.5 + 0.5 * np.mean(1 + bets / 0.001 * 0.999)
    others = 0.5 + 0.5 * np.mean(1 - bets)
    assert state["n_units"] == 1 and state["log_e"] == state["log_max_e"]
    np.testing.assert_allclose(np.exp(state["log_e_target"]), [coding, others, others, others], rtol=1e-12)
    np.testing.assert_allclose(np.exp(state["log_e"]), (coding + 3 * others) / 4, rtol=1e-12)
