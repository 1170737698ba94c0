"""Reviews into a bundle: its rules by hand, the lines, and a round: label, review, train, label again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from classifier.bundle import default_bundle_dir, open_bundle
from classifier.certification import M2_MARGIN
from classifier.evidence import Baselines
from classifier.pipeline import Pipeline
from classifier.reviews import Reviewed, from_line, revise, to_line
from service.store.facts import rebuild
from service.store.opening import Store, open_store
from service.store.reading import Review
from service.store.reviewed import read_reviewed
from service.store.reviewing import note_review
from service.store.schema import accounts
from tests.command import Ran
from tests.console_store import POPULATION, SAMPLE, imported, sample_run

BASELINES = Baselines(0.001, (0.3, 0.5, 0.2, 0.4))
NOW = 10**15


def reviewed(name: str, author: str, state: str = "dismissed", **facts: Any) -> Reviewed:
    told = Reviewed(name, state, author, 100, {}, 0, (0.0,) * 4)
    return replace(told, **facts)


def public(*authors: str, confirmed: int = 0, **facts: Any) -> Sequence[str]:
    """Families that flag no more after accounts with matches of f were dismissed by these authors."""
    facts = {"matches": {"f": 5}, **facts}
    told = [reviewed(f"d{i}", author, **facts) for i, author in enumerate(authors)]
    told += [reviewed(f"c{i}", "cy", "confirmed", **facts) for i in range(confirmed)]
    return revise(told, BASELINES).made_public


def test_a_family_that_honest_accounts_send_flags_no_more() -> None:
    three = ("ann", "bob", "cat")
    assert public(*three) == ["f"]
    assert public("ann", "bob") == []  # too few
    assert public(*three, confirmed=2) == ["f"]
    assert public(*three, confirmed=3) == []
    assert public(*three, n_units=100_000) == []  # within what is allowed, so this is not why
    assert public(*three, state="watched") == []


def test_one_analyst_counts_for_no_more_than_all_others() -> None:
    assert public(*["eve"] * 1000) == []
    assert public(*["eve"] * 1000, "ann") == []  # hers and one of eve's
    assert public(*["eve"] * 1000, "ann", "bob") == ["f"]
    assert public(*["eve"] * 1000, "ann", "bob", confirmed=4) == []


def test_intent_is_allowed_as_two_analysts_have_it() -> None:
    def allowed(*told: Reviewed) -> tuple[float, ...]:
        return revise(told, BASELINES).baselines.m2

    ann = reviewed("a", "ann", n_intent=50, intent=(0.4, 0.0, 0.1, 0.0))
    eve = [reviewed(f"e{i}", "eve", n_intent=50, intent=(1.0,) * 4) for i in range(100)]
    assert allowed(ann) == allowed(*eve) == BASELINES.m2
    assert allowed(ann, *eve) == pytest.approx((0.4 * M2_MARGIN, 0.5, 0.2, 0.4))
    assert allowed(ann, replace(ann, author="bob", state="confirmed")) == BASELINES.m2
    assert allowed(replace(ann, n_intent=3), *eve) == BASELINES.m2  # three units tell nothing


def test_lines_say_what_was_told_and_nothing_else_is_taken() -> None:
    told = reviewed("ü 1", "ann", matches={"f": 3}, n_intent=2, intent=(0.5, 0.0, 1.0, 0.25))
    assert from_line(to_line(told)) == told
    good = json.loads(to_line(told))
    for change in (
        {"state": "exempted"}, {"author": ""}, {"account_id": 3}, {"n_units": -1}, {"n_units": True}, {"more": 1},
        {"matches": {"f": 101}}, {"matches": [1]}, {"intent": {"coding": 1}},
        {"intent": dict.fromkeys(good["intent"], 2)},
    ):  # fmt: skip
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            from_line(json.dumps(good | change))


# --- a round ----------------------------------------------------------------------------------------------------------


def review(store: Store, judged: dict[str, str], state: str = "dismissed") -> None:
    with store.writing() as connection:
        numbers = dict(list(connection.execute(select(accounts.c.account_id, accounts.c.account_no))))
        for name, author in judged.items():
            note_review(connection, numbers[name], Review(state, "known to us", author, None, NOW), "digest")


def verdicts(run: Path) -> dict[str, dict[str, Any]]:
    return {row["account_id"]: row for row in pq.read_table(run / "accounts.parquet").to_pylist()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_run(tmp_path_factory.mktemp("reviews") / "run")


def test_dismissed_accounts_of_one_kind_are_flagged_no_more_and_the_others_are(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The accounts of one campaign of the sample, dismissed by three analysts."""
    before = verdicts(run)
    campaigns = sorted({row["campaign_id"] for row in before.values() if row["campaign_id"]})
    kind = sorted(name for name, row in before.items() if row["campaign_id"] == campaigns[0])
    assert len(kind) == 6 and {before[name]["decision"] for name in kind} == {"flag"}
    url, file, out = imported(run, f"sqlite:///{tmp_path}/store.db"), tmp_path / "reviews.jsonl", tmp_path / "bundle"
    store = open_store(url)
    review(store, dict.fromkeys(kind, "eve"))
    for authors in ("eve alone", "all three"):
        assert Ran(capsys, "store", "reviews", "--store", url, "--out", file).code == 0
        assert "known to us" not in file.read_text() and len(file.read_text().splitlines()) == 6
        ran = Ran(capsys, "train", "--reviews", file, "--out", out)
        assert ran.code == 0, ran.err
        if authors == "eve alone":
            assert "Families that flag no more, since honest accounts send them: none." in ran.out
            assert (
                open_bundle(out).manifest.facts.baselines == open_bundle(default_bundle_dir()).manifest.facts.baselines
            )
            review(store, dict.fromkeys(kind[:2], "ann") | dict.fromkeys(kind[2:4], "bob"))
    told = open_bundle(out).manifest.facts.provenance["reviews"]
    assert (
        told["dismissed"] == 6
        and told["made_public"]
        and "ann" not in json.dumps(told)
        and kind[0] not in json.dumps(told)
    )
    assert Ran(capsys, "label", SAMPLE, "--out", tmp_path / "again", "--bundle", out, "--population", POPULATION,
               "--quiet").code == 0  # fmt: skip
    after = verdicts(tmp_path / "again")
    assert {after[name]["decision"] for name in kind} == {"review"} and after[kind[0]]["basis"] == "public"
    same = ("decision", "capabilities", "log10_max_e", "basis", "evidence_event_ids")
    others = [name for name in before if name not in kind]
    assert [[after[n][key] for key in same] for n in others] == [[before[n][key] for key in same] for n in others]
    pipeline = Pipeline.load(out)
    assert rebuild(store, pipeline.baselines, pipeline.public_families) == len(before)
    with store.reading() as connection:
        rows = [tuple(row) for row in connection.execute(select(accounts.c.account_id, accounts.c.log_max_e))]
    assert dict(rows) == pytest.approx({name: row["log10_max_e"] * 2.302585092994046 for name, row in after.items()})
    store.close()


def test_reviews_in_force_are_told_by_the_newest(run: Path, tmp_path: Path) -> None:
    store = open_store(imported(run, f"sqlite:///{tmp_path}/store.db"))
    review(store, {"acct_0032": "ann", "acct_0001": "ann", "acct_0004": "ann"})
    review(store, {"acct_0032": "bob"}, "confirmed")
    review(store, {"acct_0001": "bob"}, "exempted")
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE reviews SET until = 5 WHERE account_no IN "
                                   "(SELECT account_no FROM accounts WHERE account_id = 'acct_0004')")  # fmt: skip
    with store.reading() as connection:
        found = {one.account_id: one for one in read_reviewed(connection, NOW)}
    store.close()
    assert {name: (one.state, one.author) for name, one in found.items()} == {
        "acct_0001": ("dismissed", "ann"),
        "acct_0032": ("confirmed", "bob"),
    }
    units = pa.concat_tables(pq.read_table(path) for path in (run / "evidence").glob("units-*.parquet"))
    units = units.filter(pc.and_(pc.equal(units["account_id"], "acct_0032"), pc.equal(units["channel"], 0)))
    hits = [family for family, y in zip(units["family"].to_pylist(), units["y"].to_pylist(), strict=True) if y]
    assert sum(found["acct_0032"].matches.values()) == len(hits) > 20
    assert set(found["acct_0032"].matches) == set(hits)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no review; give what `store reviews` wrote"),
        (b"{}\n", "line 1 is no review (KeyError)"),
        (b"caf\xe9", "is not valid UTF-8"),
        (None, "cannot be read (No such file"),
    ],
)
def test_a_file_that_holds_no_reviews_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "reviews.jsonl"
    if content is not None:
        file.write_bytes(content)
    ran = Ran(capsys, "train", "--reviews", file, "--out", tmp_path / "bundle")
    assert ran.code == 3 and said in ran.sentence and not (tmp_path / "bundle").exists()


def test_what_train_takes_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text(to_line(reviewed("a", "ann")) + "\n" + to_line(reviewed("a", "bob")) + "\n")
    for given in ([], ["--encoder", "x", "--reviews", file], ["--data", tmp_path, "--bundle", tmp_path]):
        ran = Ran(capsys, "train", "--out", tmp_path / "bundle", *given)
        assert ran.code == 2 and ran.sentence.startswith("`train` takes --data DIR")
    ran = Ran(capsys, "train", "--out", tmp_path / "bundle", "--reviews", file)
    assert ran.code == 3 and "holds a twice" in ran.sentence
    file.write_text(to_line(reviewed("a", "ann")) + "\n")
    ran = Ran(capsys, "train", "--out", tmp_path, "--reviews", file)
    assert ran.code == 5 and "is not a bundle" in ran.sentence
