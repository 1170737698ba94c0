"""Calibration on vetted accounts: against a run counted by hand, its file, and lists and runs that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.bundle import Stratum, data_dir
from classifier.certification import Certificate, clopper_pearson_upper
from classifier.errors import BundleError, InputError, UsageError
from classifier.exceptions import AgreedException
from classifier.types import Channel
from service.calibration import Calibrated, calibrate
from service.calibration_file import parse_registered, read_calibration, write_calibration
from service.calibration_words import calibration_lines
from service.vetted import read_vetted
from tests.command import Ran
from tests.unit_rows import unit_rows

POPULATION, FLAGS = 1000, 40
VETTED = {"calm": "person", "loud": "app", "keen": "person", "excused": "app", "away": "person"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """loud matches family f in 2 of 100 prompts and g in 1; keen has a mean intent of .6 for every target; excused is
    explained by a benign signature; bad is not vetted."""
    folder = tmp_path / "run"
    (folder / "evidence").mkdir(parents=True)
    calm = unit_rows(["calm"] * 3000, 0, y=np.arange(3000) < 2, families=["g"] * 2 + [None] * 2998)
    families = ["f", "g", "f"] + [None] * 97
    loud = unit_rows(["loud"] * 100, 1, y=np.arange(100) < 3, families=families, events=np.arange(100))
    keen = unit_rows(["keen"] * 10, 1)
    intent = unit_rows(["keen"] * 10, 1, channel=Channel.INTENT, levels=[7] * 6 + [0] * 4)
    bad = unit_rows(["bad"] * 50, 1, y=1, families=["f"] * 50)
    pq.write_table(pa.concat_tables([calm, loud, keen]), folder / "evidence" / "units-a.parquet")
    pq.write_table(pa.concat_tables([loud, intent, bad]), folder / "evidence" / "units-b.parquet")  # loud's once more
    decisions = {"calm": "clear", "loud": "flag", "keen": "review", "excused": "insufficient_evidence", "bad": "flag"}
    accounts = {"account_id": list(decisions), "decision": list(decisions.values())}
    pq.write_table(pa.table(accounts), folder / "accounts.parquet")
    document = {
        "bundle_id": "b",
        "catalogue_id": "none",
        "baselines": {"m1": 0.001, "m2": [0.5, 0.7, 0.7, 0.7]},
        "population": POPULATION,
        "decisions": {"flag": FLAGS},
        "fdr_bound": 1.0,
    }
    (folder / "run.json").write_text(json.dumps(document))
    return folder


def epsilon(k: int, n: int) -> float:
    return clopper_pearson_upper(k, n)


def test_rates_by_hand(run: Path) -> None:
    found = calibrate(run, VETTED, [])
    by_name = {c.account_id: c for c in found.conducts}
    assert {name: c.n_units for name, c in by_name.items()} == {"calm": 3000, "excused": 0, "keen": 10, "loud": 100}
    assert by_name["calm"].match_rate == pytest.approx(2 / 3000)
    assert by_name["loud"].match_rate == pytest.approx(0.03)
    assert by_name["loud"].by_family == pytest.approx({"f": 0.02, "g": 0.01})
    assert by_name["keen"].intent == pytest.approx((0.6,) * 4)
    assert by_name["excused"].intent == (0, 0, 0, 0)
    assert [c.account_id for c in found.above] == ["keen", "loud"]
    assert found.strata == [Stratum("app", 2, 1, epsilon(1, 2)), Stratum("person", 2, 1, epsilon(1, 2))]
    assert found.absent == ["away"]
    assert found.fdr_bound == 1.0


def test_families_that_are_loud_among_honest_accounts(run: Path) -> None:
    g, f = calibrate(run, VETTED, []).families
    assert (g.family, g.accounts, g.rate) == ("g", ["calm", "loud"], pytest.approx(0.01))
    assert (f.family, f.accounts, f.rate) == ("f", ["loud"], pytest.approx(0.02))


def test_exceptions_lower_the_rate_and_remove_no_prompt(run: Path) -> None:
    agreed = [AgreedException("loud", family, "ann", "theirs", date(2030, 1, 1)) for family in ("f", "g")]
    found = calibrate(run, VETTED, agreed)
    (loud,) = (c for c in found.conducts if c.account_id == "loud")
    assert (loud.n_units, loud.match_rate, found.n_excused) == (100, 0.0, 3)
    assert [c.account_id for c in found.above] == ["keen"]


def test_the_bound_rests_on_the_worst_stratum(run: Path) -> None:
    many = {f"p{i:05}": "person" for i in range(30_000)}
    accounts = pq.read_table(run / "accounts.parquet").to_pylist()
    rows = [*accounts, *({"account_id": name, "decision": "clear"} for name in many)]
    pq.write_table(pa.Table.from_pylist(rows), run / "accounts.parquet")
    found = calibrate(run, many, [])
    assert found.strata == [Stratum("person", 30_000, 0, epsilon(0, 30_000))]
    assert found.fdr_bound == pytest.approx(0.01 + 1e-4 * POPULATION / FLAGS, rel=1e-3)
    assert calibrate(run, many | {"calm": "app"}, []).fdr_bound == 1.0


def test_the_words_say_all_of_it(run: Path) -> None:
    lines = "\n".join(calibration_lines(calibrate(run, VETTED, []))).replace("\u00a0", " ")
    assert "4 vetted accounts in this run, with 55 distinct prompts in the median; 1 on the list are not." in lines
    assert "app             2      1   98 %" in lines
    assert "  loud: 3 % of 100 distinct prompts match known templates (f, g), allowed is 0.1 %" in lines
    assert "  keen: mean intent for coding is 60 %, allowed is 50 %" in lines
    assert "  g: 2 accounts, at most 1 % of its prompts (calm, loud)" in lines
    assert "This run has 1 of them flagged: loud." in lines and "This run has 1 of them up for review: keen." in lines
    assert "fdr_bound for this run, 40 flags of 1,000 registered accounts: 100 %" in lines


def test_the_file_holds_all_of_it(run: Path, tmp_path: Path) -> None:
    found = calibrate(run, VETTED, [])
    write_calibration(found, tmp_path / "found.json")
    document = json.loads((tmp_path / "found.json").read_text())
    assert document["n_accounts"] == 4 and document["absent"] == ["away"]
    assert [stratum["stratum"] for stratum in document["strata"]] == ["app", "person"]
    assert [(c["account_id"], c["decision"]) for c in document["above"]] == [("keen", "review"), ("loud", "flag")]
    assert document["run"]["baselines"] == {"m1": 0.001, "m2": [0.5, 0.7, 0.7, 0.7]}
    assert set(document) == {"schema_version", "n_accounts"} | set(Calibrated.__dataclass_fields__) - {"conducts"}


def test_half_of_the_accounts_set_the_baselines_of_intent_and_the_others_certify_them(run: Path) -> None:
    """Of each stratum every second account, by the digest of its id."""
    found = calibrate(run, VETTED, [])
    present = sorted(VETTED.keys() - {"away"}, key=lambda name: blake2b(name.encode()).digest())
    ranked = {stratum: [name for name in present if VETTED[name] == stratum] for stratum in ("app", "person")}
    m2 = 0.9 if "keen" in [names[0] for names in ranked.values()] else 1 / 7
    assert found.own.baselines.m2 == pytest.approx((m2,) * 4)
    above = {"loud": 1, "keen": int(m2 < 0.6)}
    assert found.own.strata == [
        Stratum(name, 1, above.get(ranked[name][1], 0), epsilon(above.get(ranked[name][1], 0), 1)) for name in ranked
    ]


def test_accounts_of_few_units_are_above_where_their_stratum_is(run: Path) -> None:
    """Four with three units of certain intent for all: nobody alone says what is to be expected, together they do."""
    names = [f"few{i}" for i in range(4)]
    rows = [unit_rows([name] * 3, 2, channel=Channel.INTENT, levels=7) for name in names]
    pq.write_table(pa.concat_tables(rows), run / "evidence" / "units-c.parquet")
    accounts = pq.read_table(run / "accounts.parquet").to_pylist()
    accounts += [{"account_id": name, "decision": "insufficient_evidence"} for name in names]
    pq.write_table(pa.Table.from_pylist(accounts), run / "accounts.parquet")
    found = calibrate(run, VETTED | dict.fromkeys(names, "bot"), [])
    assert [c.account_id for c in found.above] == [*names, "keen", "loud"] and found.strata[1].k == 4
    assert found.above[0].intent == pytest.approx((1.0,) * 4)
    said = "\n".join(calibration_lines(found)).replace("\u00a0", " ")
    assert "few0: of those of its stratum with fewer than 10 units, mean intent for coding is 100 %, allowed is" in said
    three = calibrate(run, VETTED | dict.fromkeys(names[:3], "bot"), [])
    assert [c.account_id for c in three.above] == ["keen", "loud"]  # nine units are too few to tell


def test_what_is_known_of_numbers_lowers_the_bound(run: Path) -> None:
    """None of 30,000 people is above, one of two applications is; of 1,000 registered accounts 3 are applications."""
    many = {f"p{i:05}": "person" for i in range(30_000)}
    accounts = pq.read_table(run / "accounts.parquet").to_pylist()
    rows = [*accounts, *({"account_id": name, "decision": "clear"} for name in many)]
    pq.write_table(pa.Table.from_pylist(rows), run / "accounts.parquet")
    vetted = many | {"loud": "app", "excused": "app"}
    found = calibrate(run, vetted, [], {"person": 997, "app": 3})
    expected = 0.01 + (epsilon(0, 30_000) * 997 + epsilon(1, 2) * 3) / FLAGS
    assert found.fdr_bound == pytest.approx(expected) and expected < 0.09
    fewer = calibrate(run, vetted, [], {"person": 990})  # the other ten may be of the worst kind
    assert fewer.fdr_bound == pytest.approx(0.01 + (epsilon(0, 30_000) * 990 + epsilon(1, 2) * 10) / FLAGS)
    assert calibrate(run, vetted, []).fdr_bound == 1.0


def test_what_was_sent_before_an_approval_tells_of_conduct_too(run: Path) -> None:
    early = unit_rows(["calm"] * 30, 2, matched=1, families=["h"] * 30, events=9000 + np.arange(30))
    pq.write_table(early, run / "evidence" / "units-c.parquet")
    (calm,) = (c for c in calibrate(run, VETTED, []).conducts if c.account_id == "calm")
    assert calm.match_rate == pytest.approx(32 / 3030) and calm.by_family["h"] == pytest.approx(30 / 3030)
    agreed = [AgreedException("calm", "h", "ann", "theirs", date(2030, 1, 1))]
    (calm,) = (c for c in calibrate(run, VETTED, agreed).conducts if c.account_id == "calm")
    assert calm.match_rate == pytest.approx(2 / 3030)


def test_what_is_written_is_read_for_the_same_bundle_and_catalogue(run: Path, tmp_path: Path) -> None:
    found, file = calibrate(run, VETTED, [], {"person": 12}), tmp_path / "found.json"
    write_calibration(found, file)
    certificate = read_calibration(file, SimpleNamespace(bundle_id="b", catalogue_id="none"))
    assert certificate == Certificate(found.own.baselines, found.own.strata, {"person": 12})
    for bundle, catalogue, said in (
        ("c", "none", "was made with bundle b, this is c; label with this one, and calibrate that run"),
        ("b", "local", "was made with catalogue none, this is local;"),
    ):
        with pytest.raises(BundleError, match=said):
            read_calibration(file, SimpleNamespace(bundle_id=bundle, catalogue_id=catalogue))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("own"),
        lambda d: d["run"].pop("bundle_id"),
        lambda d: d["own"]["strata"][0].update(epsilon=0.0001),
        lambda d: d["own"]["strata"][0].update(n=-1),
        lambda d: d["own"]["baselines"].update(m1=2),
        lambda d: d["registered"].update(person=-3),
        lambda d: d.update(registered=[3]),
        lambda d: d.update(schema_version=0),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(run: Path, tmp_path: Path, change: Callable[[Any], object]) -> None:
    file = tmp_path / "found.json"
    write_calibration(calibrate(run, VETTED, []), file)
    document = json.loads(file.read_text())
    change(document)
    for content in (json.dumps(document), "{", "[]"):
        file.write_text(content)
        with pytest.raises(InputError, match=r"is no calibration \(\w+\); give what `probewatch calibrate"):
            read_calibration(file, SimpleNamespace(bundle_id="b", catalogue_id="none"))
    with pytest.raises(InputError, match="cannot be read"):
        read_calibration(tmp_path / "nowhere", SimpleNamespace(bundle_id="b", catalogue_id="none"))


def test_numbers_by_stratum() -> None:
    assert parse_registered(["a=b=3", "c=0"], {"a=b", "c"}) == {"a=b": 3, "c": 0}
    for given in (["c"], ["c=-1"], ["c=x"], ["d=1"], ["c=1", "c=2"], ["c="]):
        with pytest.raises(UsageError, match=r"expected STRATUM=N, each stratum of the list once \(c\)"):
            parse_registered(given, {"c"})


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda run: (run / "run.json").unlink(), "holds no run.json; give the folder"),
        (lambda run: (run / "run.json").write_text("{}"), "is not the run.json of a labelled run (KeyError)"),
        (lambda run: [p.unlink() for p in (run / "evidence").iterdir()], "holds no evidence"),
        (lambda run: (run / "accounts.parquet").write_bytes(b"PAR1"), "a table of this run is damaged or missing"),
        (lambda run: (run / "evidence" / "units-a.parquet").write_bytes(b"PAR1"), "is damaged or missing"),
    ],
)
def test_a_run_that_is_none_is_one_sentence(run: Path, break_it: object, said: str) -> None:
    break_it(run)  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        calibrate(run, VETTED, [])
    assert said in str(caught.value)


def test_none_of_the_accounts_in_the_run(run: Path) -> None:
    with pytest.raises(InputError, match="holds none of the 1 vetted accounts; give a run in which they are"):
        calibrate(run, {"nobody": "x"}, [])


# --- lists ------------------------------------------------------------------------------------------------------------


def test_lists_in_every_form(tmp_path: Path) -> None:
    wanted = {"a": "app", "b": "person", "ü 1": "person"}
    rows = [{"account_id": name, "stratum": stratum, "note": "x"} for name, stratum in wanted.items()]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, [*rows, rows[0]])), encoding="utf-8")
    lines = ["account_id,note,stratum", *(f"{r['account_id']},x,{r['stratum']}" for r in rows)]
    (tmp_path / "v.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "v.parquet")
    for kind in ("jsonl", "csv", "parquet"):
        assert read_vetted(tmp_path / f"v.{kind}") == wanted
    (tmp_path / "v.txt").write_text("a\n\n b \nü 1\na\n", encoding="utf-8")
    assert read_vetted(tmp_path / "v.txt") == dict.fromkeys(wanted, "accounts")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.txt", b"\n", "holds no account; expected an id a line, or .jsonl"),
        ("v.txt", b"caf\xe9", "is not valid UTF-8"),
        ("v.csv", b"id\n7\n", "record 1 has no account_id that is a text"),
        ("v.jsonl", b'{"account_id": "a"}\n{', "a line is not valid JSON"),
        ("v.jsonl", b'{"account_id": "a"}\n{"account_id": 7}', "record 2 has no account_id that is a text"),
        ("v.jsonl", b"[1]", "record 1 has no account_id"),
        ("v.jsonl", b'{"account_id": "a", "stratum": 3}', "record 1 has a stratum that is no text"),
        ("v.csv", b"account_id,stratum\na,x\na,y\n", "a is of the strata x and y; expected one of them"),
        ("v.parquet", b"PAR1", "is not a readable Parquet file"),
    ],
)
def test_a_bad_list_is_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_vetted(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and said in str(caught.value)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    for name in ("v.txt", "v.parquet"):
        with pytest.raises(InputError, match=r"cannot be read \(No such file"):
            read_vetted(tmp_path / name)


# --- back into a run --------------------------------------------------------------------------------------------------


def test_a_run_is_judged_by_one_s_own_vetted_accounts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sample = data_dir() / "sample"
    truth = json.loads((sample / "truth.json").read_text())["accounts"]
    honest = [name for name, facts in truth.items() if facts["campaign"] is None]
    (tmp_path / "vetted.csv").write_text("account_id,stratum\n" + "".join(f"{name},people\n" for name in honest))
    traffic, file = sample / "traffic.jsonl", tmp_path / "found.json"
    assert Ran(capsys, "label", traffic, "--out", tmp_path / "run", "--quiet").code == 0
    calibrate_run = ("calibrate", tmp_path / "run", "--benign", tmp_path / "vetted.csv", "--out", file)
    ran = Ran(capsys, *calibrate_run, "--registered", f"people={len(honest)}")
    assert ran.code == 0 and "The other half certifies that for `label --calibration`: people 0 of 17 above" in ran.out
    ran = Ran(capsys, "label", traffic, "--out", tmp_path / "own", "--calibration", file)
    document = json.loads((tmp_path / "own" / "run.json").read_text())
    written, n = json.loads(file.read_text())["own"], len(honest)
    assert document["baselines"] == written["baselines"] and document["baselines"]["m2"][0] < 0.5
    largest = epsilon(0, 17)
    assert document["fdr_strata"] == [
        {"stratum": "people", "n": 17, "k": 0, "epsilon": largest, "registered": n, "adds": largest * n / 12}
    ]
    assert document["fdr_bound"] == pytest.approx(0.01 + largest * (n + 12) / 12)
    said = " ".join(ran.out.replace("\u00a0", " ").split())
    assert (
        "- people: 0 of 17 honest accounts above the baseline, so at most 17 % of all such (95 %); alone that" in said
    )
    flagged = [pq.read_table(tmp_path / run / "accounts.parquet").to_pylist() for run in ("run", "own")]
    assert [{row["account_id"] for row in rows if row["decision"] == "flag"} for rows in flagged] == [
        truth.keys() - honest
    ] * 2
    many = Ran(capsys, *calibrate_run, "--registered", "people=48")
    assert many.code == 0
    ran = Ran(capsys, "label", traffic, "--out", tmp_path / "own", "--calibration", file, "--quiet")
    assert ran.code == 2 and ran.sentence.startswith("--calibration tells of 48 registered accounts: expected at most")
    ran = Ran(capsys, "label", traffic, "--out", tmp_path / "new", "--calibration", traffic, "--quiet")
    assert ran.code == 3 and "is no calibration" in ran.sentence and not (tmp_path / "new").exists()
