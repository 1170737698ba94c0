"""training/simulate*.py and the command: texts and scenarios of one's own, whole folders or none, what is refused."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from classifier.bundle import data_dir
from classifier.errors import InputError, OutputError, UsageError
from service.inputs import expand_inputs
from tests.command import Ran
from tests.simulated import EXCHANGES, campaign, read_world, scenario

ROOT = Path(__file__).resolve().parents[1]


# --- texts of the user's own ------------------------------------------------------------------------------------------


def test_texts_given_take_the_place_of_those_that_ship(tmp_path: Path) -> None:
    from training.simulate import simulate

    rows = [{"text": f"own person {i}", "kind": "human"} for i in range(200)]
    rows += [{"text": f"own bench {i}", "kind": "benchmark"} for i in range(50)]
    rows += [{"text": f"own app {i}", "app": "a/b", "kind": "rag"} for i in range(20)]
    rows += [{"text": f"own judge {i}", "app": "a/j", "kind": "judge"} for i in range(20)]
    rows += [{"text": f"own harvest {i}", "family": "mine", "capability": "agentic_reasoning"} for i in range(90)]
    pq.write_table(
        pa.Table.from_pylist(
            rows, pa.schema([(n, pa.string()) for n in ("text", "kind", "app", "family", "capability")])
        ),
        tmp_path / "own.parquet",
    )
    lines = [
        {"text": "never sent", "app": "a/c", "kind": "rag", "ambiguous": True},
        {"text": "own app 0", "app": "a/d"},
    ]
    (tmp_path / "more.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    plain = campaign(families=("mine",), change_day=None, families_after=(), share=1.0, turning=0, turn_day=None)
    simulate(tmp_path / "out", scenario(plain), [tmp_path / "own.parquet", tmp_path / "more.jsonl"])
    made = read_world(tmp_path / "out")
    starts: dict[str, set[str]] = {}
    for row in made.traffic.filter(pc.is_valid(made.traffic["prompt"])).to_pylist():
        kind = made.accounts[row["account_id"]]["kind"]
        starts.setdefault(kind, set()).add(re.sub(r" \d+$", "", row["prompt"]))
        assert (row["family"] == "mine") == (kind == "campaign") == row["prompt"].startswith("own harvest")
    assert starts["person"] == starts["one_interest"] == starts["author"] == {"own person"}
    assert starts["evaluation"] == {"own bench"} and starts["judge"] == {"own judge"}
    assert starts["application"] == {"own app"} and "own app" not in starts["agent_user"]
    assert made.truth["campaigns"][0]["capabilities"] == ["agentic_reasoning"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"no parquet", "cannot be read as parquet"),
        ("a.jsonl", b"{", "cannot be read as jsonl"),
        ("a.jsonl", b'{"words": "x"}\n', "has no column text: it has words"),
        ("a.jsonl", b'{"text": 3}\n', "column text is int64, expected text"),
        ("a.jsonl", b'{"text": " "}\n', "holds no text"),
        ("a.txt", b"x", "has an unknown suffix"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    from training.simulate import simulate

    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(said)):
        simulate(tmp_path / "out", scenario(), [tmp_path / name])
    assert not (tmp_path / "out").exists()


# --- scenarios --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"share": 1.5}, "share is 1.5, expected a number from 0 to 1"),
        ({"turning": -0.1}, "turning is -0.1"),
        ({"accounts": 501}, "take 501 accounts of 500"),
        ({"exchanges": 39_900}, "leave 100 exchanges to 460 benign accounts"),
        ({"exchanges": 39}, "has 39 exchanges for 40 accounts"),
        ({"first_day": 21}, "runs from day 21 to 20"),
        ({"last_day": 21}, "runs from day 2 to 21"),
        ({"change_day": 1}, "change_day is 1, expected a day from 2 to 20"),
        ({"families_after": ()}, "change_day and families_after go together"),
        ({"turn_day": None}, "turning and turn_day go together"),
        ({"families": ()}, "has no families"),
        ({"ramp_days": -1}, "ramp_days is -1"),
        ({"live": 31}, "30 accounts take turns with 31 live at once"),
        ({"live": 1}, "at most one for each of them a day (19)"),
    ],
)
def test_a_campaign_that_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        scenario(campaign(**changes))


def test_a_scenario_file_says_what_the_fields_say(tmp_path: Path) -> None:
    from training.simulate_scenario import read_plan

    (tmp_path / "s.toml").write_text(
        'days = 9\nstart = 2026-02-03\n[[campaign]]\nname = "a"\naccounts = 3\nshare = 1\nfamilies = ["x", "y"]\n'
    )
    plan = read_plan(tmp_path / "s.toml")
    assert (plan.days, plan.start) == (9, date(2026, 2, 3))
    only = plan.campaigns[0]
    assert (only.name, only.accounts, only.share, only.families, only.live) == ("a", 3, 1, ("x", "y"), None)


def test_the_scenario_that_ships_is_the_documented_campaign() -> None:
    from training.simulate_scenario import make_scenario, read_plan

    plan = read_plan(data_dir() / "simulate" / "headline.toml")
    whole = make_scenario(plan, 58_800_000, 275_000, None, 0)
    (only,) = whole.campaigns
    assert (only.accounts, whole.campaign_exchanges(only), whole.days, whole.n_benign) == (
        25_000,
        28_800_000,
        45,
        250_000,
    )
    assert whole.start + timedelta(days=whole.days - 1) == date(2026, 6, 5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("days = ", "cannot be read"),
        ("speed = 3", "holds 'speed': expected days, start and [[campaign]] only"),
        ("days = 1.5", "days is 1.5, expected a whole number"),
        ("start = 'soon'", "start is soon, expected a date"),
        ("[campaign]\nname = 'a'", "in double brackets"),
        ("[[campaign]]\nname = 'a'", "campaign 'a': accounts is missing"),
        ("[[campaign]]\nname = 'a'\naccounts = 'x'", "accounts is a str, expected int"),
        ("[[campaign]]\nname = 'a'\naccounts = 3\nfamilies = [1]", "families holds something else"),
        ("[[campaign]]\nname = 'a'\naccounts = 3\nspeed = 1", "'speed' is not known"),
    ],
)
def test_a_scenario_file_that_says_nothing_known(tmp_path: Path, content: str, said: str) -> None:
    from training.simulate_scenario import read_plan

    (tmp_path / "s.toml").write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        read_plan(tmp_path / "s.toml")


# --- whole or not there -----------------------------------------------------------------------------------------------


def test_what_fails_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import simulate as module

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "compose_truth", fail)
    with pytest.raises(ZeroDivisionError):
        module.simulate(tmp_path / "out", scenario())
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_nothing_that_reads_as_traffic(tmp_path: Path) -> None:
    code = (
        "from datetime import date; from pathlib import Path; from training.simulate import simulate;"
        "from training.simulate_scenario import make_scenario, simple_plan;"
        "world = make_scenario(simple_plan(900), 9_000_000, 900, 14, 0);"
        f"simulate(Path({str(tmp_path / 'out')!r}), world, part=50_000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    parts = tmp_path / ".out.unfinished" / "traffic"
    while not (parts.is_dir() and len(list(parts.iterdir())) > 3):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="holds no file of traffic"):
        expand_inputs([str(tmp_path)])
    from training.simulate import simulate

    with pytest.raises(OutputError, match="one was killed; if none runs, remove it and repeat"):
        simulate(tmp_path / "out", scenario())


def test_a_folder_in_use_is_left_alone_and_an_empty_one_is_filled(tmp_path: Path) -> None:
    from training.simulate import simulate

    (tmp_path / "note").write_text("mine")
    with pytest.raises(OutputError, match="is there and holds something"):
        simulate(tmp_path, scenario())
    with pytest.raises(OutputError, match="is there and holds something"):
        simulate(tmp_path / "note", scenario())
    (tmp_path / "empty").mkdir()
    assert simulate(tmp_path / "empty", scenario()).events == EXCHANGES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "note"]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--exchanges", "9", "--accounts", "10"], 2, "--exchanges got 9 for 10 accounts"),
        (["--exchanges", "90", "--accounts", "0"], 2, "Invalid value for '--accounts'"),
        (["--exchanges", "90", "--accounts", "9", "--share", "2"], 2, "Invalid value for '--share'"),
        (["--exchanges", "90", "--accounts", "9", "--families", "x"], 2, "Family 'x' has no texts"),
        (["--exchanges", "90", "--accounts", "9", "--campaign-accounts", "10"], 2, "take 10 accounts of 9"),
        (["--exchanges", "90", "--accounts", "9", "--scenario", "s.toml"], 3, "--scenario s.toml cannot be read"),
        (
            ["--exchanges", "90", "--accounts", "9", "--scenario", "s.toml", "--share", "1"],
            2,
            "--share and --scenario say the same thing twice",
        ),
        (["--exchanges", "90", "--accounts", "9", "--texts", "t.parquet"], 3, "--texts t.parquet cannot be read"),
    ],
)
def test_a_bad_option_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = Ran(capsys, "simulate", "--out", "out", *arguments)
    assert ran.code == code and said in ran.sentence
    assert list(tmp_path.iterdir()) == []


def test_simulate_says_what_it_wrote_and_quiet_says_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for days in (1, 3):
        sizes = ["--exchanges", 900, "--accounts", 60, "--days", days]
        ran = Ran(capsys, "simulate", "--out", tmp_path / f"of {days}", *sizes)
        assert (ran.code, ran.err) == (0, "")
        assert re.match(
            rf"900 events of 60 accounts over {days} days: \d+ are extraction, \d+ are sent twice\.\n", ran.out
        )
    ran = Ran(capsys, "simulate", "--out", tmp_path / "quiet", *sizes, "--campaign-accounts", 0, "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert json.loads((tmp_path / "quiet" / "truth" / "truth.json").read_text())["campaigns"] == []


def test_label_finds_the_campaign_and_nobody_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sizes = ["--exchanges", 15_000, "--accounts", 200, "--quiet"]
    assert Ran(capsys, "simulate", "--out", tmp_path / "sim", *sizes).code == 0
    made = read_world(tmp_path / "sim")
    ran = Ran(capsys, "label", tmp_path / "sim" / "traffic", "--out", tmp_path / "run", "--workers", 1, "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    counts = json.loads((tmp_path / "run" / "run.json").read_text())["counts"]
    assert (counts["read"], counts["rejected"]) == (15_000, 0)
    assert counts["duplicates"] == made.truth["counts"]["retries"]
    verdicts = {row["account_id"]: row for row in pq.read_table(tmp_path / "run" / "accounts.parquet").to_pylist()}
    flagged = {name for name, row in verdicts.items() if row["decision"] == "flag"}
    members = {name for name, row in made.accounts.items() if row["campaign"] is not None}
    assert flagged == {name for name in members if made.accounts[name]["n_extraction"] >= 6} and len(flagged) >= 8
    assert len({verdicts[name]["campaign_id"] for name in flagged}) == 1
