"""The rate of false flags over whole worlds at the edge of the null, a small edition of tests/benchmarks/kernel.py."""

from __future__ import annotations

import numpy as np
import pytest

from classifier.evidence import Baselines
from tests.worlds import CONDUCTS, Conduct, Rows, honest_rows, honest_units, log_evidence, most_false

EDGE = Baselines(0.1, (0.1, 0.1, 0.1, 0.1))
WORLDS, ACCOUNTS, ALPHA = 40, 50, 0.5
"""So high an error rate that a kernel which is a few times too bold shows in few worlds."""


def shares_of_false_flags(rows: Rows) -> list[float]:
    log_e = log_evidence(rows, EDGE)
    world = rows.account // ACCOUNTS
    honest = np.ones(ACCOUNTS, bool)
    return [
        most_false(
            rows.where(world == w).renumbered(rows.account[world == w] % ACCOUNTS),
            log_e[world == w],
            honest,
            ACCOUNTS,
            ALPHA,
        )
        for w in range(WORLDS)
    ]


def rows_of(conduct: Conduct, m1: float) -> Rows:
    usual = np.full(WORLDS * ACCOUNTS, 6)
    return honest_rows(np.random.default_rng(1), conduct, m1, WORLDS * ACCOUNTS, 30, usual)


@pytest.mark.parametrize("conduct", CONDUCTS, ids=lambda conduct: conduct.name)
def test_false_flags_are_few_whatever_honest_accounts_do(conduct: Conduct) -> None:
    rows = rows_of(conduct, EDGE.m1)
    ends = np.append((np.diff(rows.account) != 0) | (np.diff(rows.day) != 0), True)
    assert rows.hits[ends].sum() / rows.n[ends].sum() == pytest.approx(EDGE.m1, rel=0.1)  # they live at the edge
    assert np.mean(shares_of_false_flags(rows)) <= ALPHA / 2


def test_beyond_the_edge_they_are_flagged() -> None:
    assert np.mean(shares_of_false_flags(rows_of(CONDUCTS[0], 2 * EDGE.m1))) > ALPHA


def test_false_flags_are_few_where_intent_is_at_its_edge_too() -> None:
    rows = honest_units(np.random.default_rng(2), EDGE, WORLDS * ACCOUNTS, 15, 6)
    assert np.mean(shares_of_false_flags(rows)) <= ALPHA / 2


def test_the_share_at_its_largest_is_not_that_of_the_end() -> None:
    """A false flag at noon is half of the flags; ten true ones in the evening make it one of eleven."""
    account = np.arange(11)
    n = np.array([1, *range(2, 12)])
    rows = Rows(account, np.zeros(11, np.int64), n, np.ones(11, np.int64), np.zeros((11, 8), np.int64))
    assert most_false(rows, np.full(11, 99.0), account < 1, 11, 0.01) == 1
    assert (
        most_false(
            rows.renumbered(account[::-1].copy()).where(np.argsort(account[::-1])),
            np.full(11, 99.0),
            account < 1,
            11,
            0.01,
        )
        == 1 / 11
    )
