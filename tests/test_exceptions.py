"""Exceptions: the file, sentence by sentence; what they excuse, and that no unit goes."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.errors import InputError
from classifier.evidence import Baselines, replay
from classifier.exceptions import AgreedException, excuse
from classifier.types import Channel
from classifier.units import merge_units
from service.exceptions import read_exceptions
from tests.unit_rows import unit_rows

ENTRY = """
[[exception]]
account = "acct"
family = "seeds"
who = "ann"
why = "red team"
until = 1970-01-03
"""
AGREED = AgreedException("acct", "seeds", "ann", "red team", date(1970, 1, 3))
BASELINES = Baselines(0.001, (0.1, 0.1, 0.1, 0.1))


def units() -> pa.Table:
    """Two accounts match two families, once a day on four days each; one of the two also sends clean prompts."""
    names = ["acct"] * 8 + ["other"] * 4
    families = ["seeds", "bugs"] * 4 + ["seeds"] * 4
    days = [0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3]
    matched = unit_rows(names, days, y=1, y_public=2, families=families)
    clean = unit_rows(["acct"] * 5, [0, 1, 2, 3, 4], events=np.arange(20, 25))
    intent = unit_rows(["acct"] * 5, 1, channel=Channel.INTENT, levels=7, events=np.arange(30, 35))
    return merge_units([matched, clean, intent])


# --- what they excuse -------------------------------------------------------------------------------------------------


def test_an_account_s_matches_of_a_family_count_for_nothing_to_the_end_of_the_last_day() -> None:
    before, after = units().to_pylist(), excuse(units(), [AGREED])
    pairs = list(zip(before, after.units.to_pylist(), strict=True))
    changed = [old for old, new in pairs if old != new]
    assert after.n_units == [3]
    assert [(row["account_id"], row["family"], row["timestamp"].day) for row in changed] == [
        ("acct", "seeds", day) for day in (1, 2, 3)
    ]
    assert [new | {"y": old["y"], "y_public": old["y_public"]} for old, new in pairs] == before
    assert all((new["y"], new["y_public"]) == (0, 0) for old, new in pairs if old in changed)


def test_no_unit_goes_and_the_schema_stays() -> None:
    after = excuse(units(), [AGREED, dataclasses.replace(AGREED, family="bugs", until=date(2030, 1, 1))])
    assert after.n_units == [3, 4]
    assert after.units.schema.equals(units().schema)
    assert after.units.num_rows == units().num_rows
    assert excuse(units(), []).units.equals(units())
    assert excuse(merge_units([]), [AGREED]).n_units == [0]


def test_who_is_not_there_is_excused_nothing() -> None:
    others = [dataclasses.replace(AGREED, **{name: "nobody"}) for name in ("account", "family")]
    found = excuse(units(), others)
    assert (found.n_units, found.units.equals(units())) == ([0, 0], True)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.sampled_from([None, "f", "g"])), min_size=1, max_size=30
    )
)
def test_evidence_only_falls(rows: list[tuple[str, int, str | None]]) -> None:
    accounts, days, families = (list(column) for column in zip(*rows, strict=True))
    sent = merge_units([unit_rows(accounts, days, y=[int(f is not None) for f in families], families=families)])
    before = replay(sent, BASELINES)
    after = replay(excuse(sent, [AgreedException("a", "f", "x", "y", date(1970, 1, 6))]).units, BASELINES)
    assert after.n_units.tolist() == before.n_units.tolist()
    assert (after.log_max_e <= before.log_max_e + 1e-12).all()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_of_exceptions(tmp_path: Path) -> None:
    path = tmp_path / "agreed.toml"
    path.write_text(ENTRY + ENTRY.replace('"seeds"', '"bugs"'), encoding="utf-8")
    assert read_exceptions(path) == [AGREED, dataclasses.replace(AGREED, family="bugs")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[exception]\n", "is not valid TOML ("),
        ("", "holds nothing, expected [[exception]] entries with account, family, who, why, until and nothing else."),
        ("[exception]\n", "holds exception, expected [[exception]] entries"),
        (ENTRY + "[more]\n", "holds exception, more, expected"),
        (ENTRY.replace('who = "ann"\n', ""), "exception 1 lacks who: expected account, family, who, why, until"),
        (ENTRY + "whom = 1\n", "exception 1 has whom: expected"),
        (ENTRY.replace("1970-01-03", '"soon"'), "exception 1 has until = soon: expected a date without quotes"),
        (ENTRY.replace("1970-01-03", "1970-01-03T10:00:00"), "expected a date without quotes"),
        (ENTRY.replace('"red team"', '" "'), "exception 1 has why = ' ': expected a text that is not empty."),
        (ENTRY.replace('"acct"', "7"), "exception 1 has account = 7: expected a text"),
        (ENTRY + ENTRY, "exceptions 1 and 2 are of the same account and family; keep one."),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "agreed.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_exceptions(path)
    assert str(path) in str(caught.value) and said in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        read_exceptions(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'why = "caf\xe9"')
    with pytest.raises(InputError, match="not valid UTF-8"):
        read_exceptions(tmp_path / "latin.toml")
