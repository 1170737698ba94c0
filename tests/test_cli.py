"""service/cli.py: every exit code with its one sentence, every command's help, and what commands print."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from classifier import bundle as bundle_module
from classifier.bundle import data_dir, default_bundle_dir, open_bundle
from classifier.errors import BundleError, InputError, OutputError, ProbewatchError, UsageError
from classifier.pipeline import Pipeline
from service import exits
from tests.command import Ran
from tests.runs import records, write

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    (): [
        *("--version", "label", "score", "report", "export", "demo", "calibrate", "bench"),
        *("serve", "import", "store", "keys", "alerts", "bundle", "templates", "simulate", "train", "evaluate"),
    ],
    ("label",): [
        "PATH",
        "--out",
        "--format",
        "--account-field",
        "--engine",
        "--address",
        "--workers",
        "--bundle",
        "--catalogue",
        "--population",
        "--exceptions",
        "--calibration",
        "--fresh",
        "--quiet",
    ],
    ("score",): ["TEXT", "--json", "--bundle", "--catalogue"],
    ("report",): ["DIR", "--out"],
    ("export",): [
        "DIR",
        "--format",
        "--out",
        "--key-file",
        "--make-key",
        "--campaign",
        "--review",
        "--raw-ids",
        "--name",
        "--tlp",
        "--catalogue",
        "--bundle",
    ],
    ("demo",): ["--out"],
    ("calibrate",): ["DIR", "--benign", "--out", "--registered", "--exceptions"],
    ("bench",): ["label", "match", "serve"],
    ("bench", "label"): ["--prompts", "--largest", "--folder", "--json", "--quiet"],
    ("bench", "match"): ["--signatures", "--json", "--quiet"],
    ("bench", "serve"): ["--seconds", "--overload", "--soak", "--store", "--folder", "--json", "--quiet"],
    ("serve",): ["--host", "--port", "--store", "--workers", "--population", "--bundle", "--catalogue", "--exceptions"],
    ("import",): ["DIR", "--store", "--quiet"],
    ("store",): ["upgrade", "rebuild", "prune", "backup", "restore", "reviews"],
    ("store", "prune"): ["--dry-run", "--store"],
    ("store", "backup"): ["FILE", "--store"],
    ("store", "restore"): ["FILE", "--store"],
    ("alerts",): ["secret", "test", "list", "retry"],
    ("alerts", "secret"): [],
    ("alerts", "test"): [],
    ("alerts", "list"): ["--store", "--last", "--json"],
    ("alerts", "retry"): ["--store"],
    ("store", "reviews"): ["--out", "--store"],
    ("store", "upgrade"): ["--store"],
    ("store", "rebuild"): ["--store", "--bundle"],
    ("keys",): ["add", "list", "revoke", "logout"],
    ("keys", "add"): ["--role", "--name", "--days", "--store"],
    ("keys", "list"): ["--store", "--json"],
    ("keys", "revoke"): ["ID", "--store"],
    ("keys", "logout"): ["ID", "--store"],
    ("bundle",): ["show", "verify"],
    ("bundle", "show"): ["DIR", "--json"],
    ("bundle", "verify"): ["DIR", "--json"],
    ("templates",): ["list", "show", "check", "add", "remove", "export", "import", "discover", "approve", "benign"],
    ("templates", "list"): ["--bundle", "--catalogue", "--json"],
    ("templates", "show"): ["ID", "--bundle", "--catalogue", "--json"],
    ("templates", "check"): ["--bundle", "--catalogue", "--against", "--json"],
    ("templates", "add"): [
        "--from",
        "--family",
        "--technique",
        "--capability",
        "--tier",
        "--against",
        "--note",
        "--bundle",
        "--catalogue",
        "--dry-run",
        "--yes",
    ],
    ("templates", "remove"): ["ID", "--catalogue", "--yes"],
    ("templates", "export"): ["ID", "--catalogue", "--out"],
    ("templates", "import"): [
        "FILE",
        "ID",
        "--tier",
        "--against",
        "--note",
        "--bundle",
        "--catalogue",
        "--dry-run",
        "--yes",
    ],
    ("templates", "discover"): ["RUN_DIR", "PATH", "--top", "--bundle", "--catalogue", "--json"],
    ("templates", "approve"): [
        "RUN_DIR",
        "ID",
        "PATH",
        "--family",
        "--technique",
        "--capability",
        "--tier",
        "--against",
        "--note",
        "--bundle",
        "--catalogue",
        "--dry-run",
        "--yes",
    ],
    ("templates", "benign"): [
        "RUN_DIR",
        "ID",
        "PATH",
        "--family",
        "--against",
        "--note",
        "--bundle",
        "--catalogue",
        "--dry-run",
        "--yes",
    ],
    ("simulate",): [
        "--out",
        "--exchanges",
        "--accounts",
        "--days",
        "--campaign-accounts",
        "--share",
        "--families",
        "--scenario",
        "--texts",
        "--seed",
        "--quiet",
    ],
    ("train",): ["--data", "--out", "--encoder", "--reviews", "--bundle", "--seed"],
    ("evaluate",): ["--data", "--out", "--groups", "--first", "--encoder", "--seed"],
}


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    return write(tmp_path / "traffic.jsonl", [*records(6), "{broken"])


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_a_manual(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    ran = Ran(capsys, *command, "--help")
    assert ran.code == 0 and ran.err == ""
    assert ran.out.startswith(f"Usage: probewatch {' '.join(command)}".rstrip())
    assert [word for word in COMMANDS[command] if not re.search(rf"(?m)^ +(\[?{word}|{word})\b", ran.out)] == []
    assert max(len(line) for line in ran.out.splitlines()) <= 80


def test_no_command_is_without_help_in_this_table(capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"(?m)^  ([a-z]+)  ", Ran(capsys, "--help").out.split("Commands:")[1])
    assert {(name,) for name in listed} == {command for command in COMMANDS if len(command) == 1}
    for command, options in COMMANDS.items():
        shown = set(re.findall(r"(?m)^  (--[a-z-]+)", Ran(capsys, *command, "--help").out))
        assert shown - {"--help"} == {option for option in options if option.startswith("--")}


def test_without_arguments_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys)
    assert (ran.code, ran.err) == (2, "") and ran.out.startswith("Usage: probewatch")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from service import cli, exits; exits.run_app(cli.app, ['--help']);"
        "print([m for m in ('numpy', 'pyarrow', 'duckdb', 'faiss', 'onnxruntime', 'rich') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "--version")
    assert ran.code == 0 and re.fullmatch(r"probewatch (\d+\.\d+\.\d+\S*|not installed)\n", ran.out)


# --- exit codes -------------------------------------------------------------------------------------------------------


def test_the_codes_are_those_of_the_contract() -> None:
    errors = (ProbewatchError, UsageError, InputError, BundleError, OutputError)
    assert [error.exit_code for error in errors] == [1, 2, 3, 4, 5] and exits.INTERRUPTED == 130


def test_a_cluster_without_its_extra_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "service.cluster", raising=False)
    ran = Ran(capsys, "label", tmp_path, "--out", tmp_path / "run", "--engine", "ray")
    assert (ran.code, ran.out) == (2, "")
    assert "needs the ray extra (ray is not installed): pip install 'probewatch[ray]'." in ran.sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lable"], "No such command 'lable'. Did you mean 'label'? See probewatch --help."),
        (["label", "x"], "Missing option '--out'. See probewatch label --help."),
        (["label", "x", "--out", "y", "--workers", "0"], "Invalid value for '--workers'"),
        (["label", "x", "--out", "y", "--engine", "spark"], "Invalid value for '--engine'"),
        (["label", "x", "--out", "y", "--address", "h:1"], "--address got h:1: expected it with --engine ray"),
        (["label", "x", "--out", "y", "--speed", "9"], "No such option"),
        (["label", "x", "--out", "y", "--format", "xml"], "--format got 'xml': expected one of auto, litellm"),
        (["bundle", "mend"], "No such command 'mend'"),
        (["evaluate", "--data", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_2_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = Ran(capsys, *arguments)
    assert ran.code == 2 and said in ran.sentence
    assert list(tmp_path.iterdir()) == []


def test_2_is_training_without_its_extra(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "training.cli", None)  # what importing something absent does
    for name in ("torch", "sklearn"):
        monkeypatch.setitem(sys.modules, name, None)

    def refuse() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    class Absent:
        train = evaluate = property(lambda self: refuse())

    monkeypatch.setitem(sys.modules, "training.cli", Absent())  # type: ignore[arg-type]
    for arguments in (["train", "--data", tmp_path, "--out", tmp_path], ["evaluate", "--data", tmp_path]):
        ran = Ran(capsys, *arguments)
        assert ran.code == 2
        assert (
            ran.sentence
            == "Training needs the training extra (torch is not installed): pip install 'probewatch[training]'."
        )


def test_3_is_input_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = Ran(capsys, "label", tmp_path / "nowhere.jsonl", "--out", tmp_path / "run")
    assert ran.code == 3 and "nowhere.jsonl does not exist" in ran.sentence
    bad = write(tmp_path / "bad.jsonl", ["{"])
    ran = Ran(capsys, "label", bad, "--out", tmp_path / "run")
    assert ran.code == 3 and "Not one of 1 records could be labelled" in ran.sentence
    ran = Ran(capsys, "report", tmp_path / "run")
    assert ran.code == 3 and "run.json" in ran.sentence
    for text in (b"", b" \n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        ran = Ran(capsys, "score", "-")
        assert (ran.code, ran.sentence) == (3, "The prompt is empty, expected text.")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    ran = Ran(capsys, "score")
    assert (ran.code, ran.sentence) == (3, "Standard input is not valid UTF-8: convert it first.")


def test_4_is_a_bundle_that_is_missing_or_damaged(
    capsys: pytest.CaptureFixture[str], traffic: Path, tmp_path: Path
) -> None:
    (tmp_path / "damaged").mkdir()
    for path in default_bundle_dir().rglob("*"):
        if path.is_file():
            copy = tmp_path / "damaged" / path.relative_to(default_bundle_dir())
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    victim = tmp_path / "damaged" / next(iter(open_bundle(default_bundle_dir()).manifest.files))
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    for folder, said in (("nowhere", "manifest.json cannot be read"), ("damaged", "was altered")):
        for arguments in (
            ["label", traffic, "--out", tmp_path / "run", "--bundle", tmp_path / folder],
            ["score", "hello", "--bundle", tmp_path / folder],
            ["bundle", "show", tmp_path / folder],
            ["bundle", "verify", tmp_path / folder],
        ):
            ran = Ran(capsys, *arguments)
            assert ran.code == 4 and said in ran.sentence
    assert not (tmp_path / "run").exists()


def test_5_is_a_folder_that_cannot_be_used(capsys: pytest.CaptureFixture[str], traffic: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    ran = Ran(capsys, "label", traffic, "--out", tmp_path / "taken")
    assert ran.code == 5 and "cannot be written" in ran.sentence
    ran = Ran(capsys, "label", traffic, "--out", tmp_path)
    assert ran.code == 5 and "is not a labelled run" in ran.sentence


def test_1_is_our_fault_and_the_traceback_is_there_for_the_asking(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise ZeroDivisionError("the prompt was: secret")

    monkeypatch.setattr(bundle_module, "open_bundle", fail)
    monkeypatch.delenv("PROBEWATCH_DEBUG", raising=False)
    ran = Ran(capsys, "bundle", "verify")
    assert ran.code == 1 and "Unexpected ZeroDivisionError" in ran.sentence
    assert "PROBEWATCH_DEBUG=1" in ran.sentence and "secret" not in ran.sentence
    monkeypatch.setenv("PROBEWATCH_DEBUG", "1")
    ran = Ran(capsys, "bundle", "verify")
    assert ran.code == 1 and "Traceback" in ran.err and "in fail" in ran.err


def test_130_is_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_module, "open_bundle", interrupt)
    ran = Ran(capsys, "bundle", "verify")
    assert ran.code == 130 and ran.sentence.startswith("Interrupted")


def test_a_reader_that_leaves_is_no_error_message() -> None:
    code = "from service.cli import main; main()"
    read, written = os.pipe()
    os.close(read)
    with os.fdopen(written, "wb") as gone:
        ran = subprocess.run(
            [sys.executable, "-c", code, "--help"], cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert ran.stderr == b""


# --- commands ---------------------------------------------------------------------------------------------------------


def test_label_prints_what_was_found_and_writes_the_report(
    capsys: pytest.CaptureFixture[str], traffic: Path, tmp_path: Path
) -> None:
    ran = Ran(capsys, "label", traffic, "--out", tmp_path / "run")
    assert (ran.code, ran.err) == (0, "")
    assert "7 records read = 6 labelled + 1 rejected + 0 duplicates." in ran.out
    assert ran.out.endswith(f"\nreport: {tmp_path / 'run' / 'report.html'}\n")
    assert "\x1b" not in ran.out and max(map(len, ran.out.splitlines()[:-1])) <= 80
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8").startswith("<!")
    quiet = Ran(capsys, "label", traffic, "--out", tmp_path / "run", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_report_says_where_it_is(capsys: pytest.CaptureFixture[str], traffic: Path, tmp_path: Path) -> None:
    Ran(capsys, "label", traffic, "--out", tmp_path / "run", "--quiet")
    (tmp_path / "run" / "report.html").unlink()
    ran = Ran(capsys, "report", tmp_path / "run")
    assert (ran.code, ran.out) == (0, f"{tmp_path / 'run' / 'report.html'}\n")
    assert (tmp_path / "run" / "report.html").exists()


def test_calibrate_certifies_vetted_accounts(
    capsys: pytest.CaptureFixture[str], traffic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, vetted, out = tmp_path / "run", tmp_path / "vetted.txt", tmp_path / "calibration.json"
    Ran(capsys, "label", traffic, "--out", run, "--quiet")
    vetted.write_text("account-0\naccount-1\nelsewhere\n")
    ran = Ran(capsys, "calibrate", run, "--benign", vetted, "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("2 vetted accounts in this run, with 2 distinct prompts in the median; 1 on the list")
    assert "fdr_bound for this run, 0 flags of 4 registered accounts: 100\u00a0%" in ran.out
    monkeypatch.chdir(run)
    assert Ran(capsys, "calibrate", "--benign", vetted).out == ran.out
    document = json.loads(out.read_text())
    assert document["strata"] == [{"stratum": "accounts", "n": 2, "k": 0, "epsilon": pytest.approx(1 - 0.05**0.5)}]
    for arguments, code, said in (
        ([tmp_path / "nowhere", "--benign", vetted], 3, "holds no run.json"),
        ([run, "--benign", tmp_path / "nowhere.csv"], 3, "nowhere.csv: cannot be read (No such file or directory)"),
        ([run, "--benign", traffic, "--exceptions", vetted], 3, "vetted.txt: is not valid TOML"),
        ([run, "--benign", vetted, "--out", tmp_path / "no" / "folder.json"], 5, "cannot be written"),
        ([run], 2, "Missing option '--benign'"),
    ):
        ran = Ran(capsys, "calibrate", *arguments)
        assert ran.code == code and said in ran.sentence
    ran = Ran(capsys, "label", traffic, "--out", tmp_path / "new", "--exceptions", tmp_path / "nowhere.toml")
    assert ran.code == 3 and "nowhere.toml: cannot be read" in ran.sentence and not (tmp_path / "new").exists()


def test_the_demo_finds_both_campaigns(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    truth = json.loads((data_dir() / "sample" / "truth.json").read_text())["accounts"]
    probing = {name for name, account in truth.items() if account["campaign"] is not None}
    for _ in range(2):
        ran = Ran(capsys, "demo")
        assert (ran.code, ran.err) == (0, "")
        assert f"{len(probing)} of {len(truth)} accounts are probing:" in ran.out
        assert set(re.findall(r"(?m)^(acct_\d+) +flag ", ran.out)) == probing
        assert "2 campaigns found." in " ".join(ran.out.split())
        assert ran.out.endswith("\nreport: demo-run/report.html\n") and Path("demo-run/report.html").exists()


def test_score_as_json_is_what_the_service_will_say(capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "score", "Write a parser for this log format.", "--json")
    found = json.loads(ran.out)
    assert ran.code == 0 and set(found) == {"prompt", "bundle_id", "catalogue_id"}
    prompt = found["prompt"]
    assert found["bundle_id"] == open_bundle(default_bundle_dir()).manifest.bundle_id
    assert list(prompt["probabilities"]) == ["coding", "agentic_reasoning", "long_horizon_planning"]
    assert all(0 <= p <= 1 for p in (*prompt["probabilities"].values(), prompt["p_extraction"]))
    assert prompt["capability"] in {*prompt["probabilities"], "other"} and prompt["template"] is None


def test_score_in_words_says_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Write a parser for this log format."
    prompt = json.loads(Ran(capsys, "score", text, "--json").out)["prompt"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    lines = Ran(capsys, "score").out.splitlines()
    assert lines[0].startswith(f"coding                  {prompt['probabilities']['coding']:6.3f}")
    assert lines[3].startswith(f"made to harvest answers {prompt['p_extraction']:6.3f}")
    assert "known template          none" in lines
    nearest = prompt["nearest"]
    assert f"nearest: {nearest['id']} ({nearest['tier']}), cosine {nearest['similarity']:.3f}; no match" in lines[-1]


@pytest.mark.parametrize(
    ("text", "caveat"),
    [
        ("asdf qwer", "Fewer than 20 letters are too few to tell what is asked for: the probabilities are a guess."),
        (
            "1234567890" * 9,
            "Fewer than 20 letters are too few to tell what is asked for: the probabilities are a guess.",
        ),
        (
            "asdf qwer zxcv uiop hjkl bnm wert sdfg",
            "Hardly any of it is in words that the model has learnt: the probabilities are a guess.",
        ),
        ("Write a parser for this log format.", None),
        ("梅雨の時期の髪のうねり、どうにかならない?毎朝困っています", None),
    ],
)
def test_what_says_little_has_a_caveat(capsys: pytest.CaptureFixture[str], text: str, caveat: str | None) -> None:
    assert json.loads(Ran(capsys, "score", text, "--json").out)["prompt"]["caveat"] == caveat
    lines = Ran(capsys, "score", text).out.splitlines()
    assert [line for line in lines if line.startswith("caveat")] == ([f"{'caveat':<24}{caveat}"] if caveat else [])


def test_the_nearest_signature_is_the_one_with_the_largest_cosine() -> None:
    from service.score import score

    pipeline = Pipeline.load(default_bundle_dir())
    text = "Write a parser for this log format."
    (window,) = pipeline.labeler.encoder.encode([text.lower()]).windows
    cosine = {one.facts.id: (one.vectors @ window).max() for one in pipeline.labeler.templates.signatures}
    nearest = score(text, pipeline)["nearest"]
    assert nearest["id"] == max(cosine, key=lambda name: cosine[name])
    assert nearest["similarity"] == pytest.approx(cosine[nearest["id"]], abs=1e-5)


def test_bundle_show_and_verify(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = open_bundle(default_bundle_dir()).manifest
    shown = Ran(capsys, "bundle", "show")
    assert shown.code == 0 and shown.out.startswith(f"bundle {manifest.bundle_id} (format 3)")
    assert all(name in shown.out for name in manifest.files)
    assert json.loads(Ran(capsys, "bundle", "show", "--json").out)["bundle_id"] == manifest.bundle_id
    verified = Ran(capsys, "bundle", "verify", default_bundle_dir())
    assert verified.code == 0 and f"bundle {manifest.bundle_id} is intact" in verified.out
    facts = json.loads(Ran(capsys, "bundle", "verify", "--json").out)
    assert facts == {"bundle_id": manifest.bundle_id, "files": len(manifest.files), "intact": True}


def test_a_closed_or_full_output_is_no_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it, nothing is left to be flushed at the end
    program = "import sys; from service.cli import main; sys.exit(main())"
    line = f"{sys.executable} -c '{program}' score hello"
    assert subprocess.run(f"{line} >&-", shell=True, cwd=ROOT, check=False).returncode == 0
    full = subprocess.run(f"{line} >/dev/full", shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert full.returncode == 5
    assert full.stderr.startswith("probewatch: The output could not be written (No space left on device)")
