"""What the documents show runs: commands, examples, links, files, settings and metrics that they name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from starlette.applications import Starlette

from classifier.bundle import data_dir
from service import cli
from service.settings import settings_table
from tests.command import Ran
from tests.documents import ROOT, Block, anchors, blocks, commands, documents, links, prose, words_of
from tests.serving import Running, running
from tests.test_architecture import ORDER

SAMPLE = data_dir() / "sample" / "traffic.jsonl"
DOCUMENTS = documents()
READMES = [path for path in DOCUMENTS if path.name == "README.md"]
OTHER_SETTINGS = {"PROBEWATCH_DEBUG", "PROBEWATCH_NAME"}  # of every command; and any of them
SERVICE, CLASSIFIER = ROOT / "service" / "README.md", ROOT / "classifier" / "README.md"


def name_of(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else str(value)


def calls(program: str) -> list[tuple[Path, list[str]]]:
    """Every call of a program in a fenced block: the document, and its arguments."""
    shown = ((path, one.line) for path in DOCUMENTS for block in blocks(path.read_text()) for one in commands(block))
    return [(path, words) for path, line in shown for words in words_of(line, program)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, but for the sample as logs; no settings from outside."""
    (tmp_path / "logs").mkdir()
    with pa.CompressedOutputStream(str(tmp_path / "logs" / "2026-09.jsonl.zst"), "zstd") as out:
        out.write(SAMPLE.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in [name for name in os.environ if name.startswith("PROBEWATCH_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('docs') / 'store.db'}") as found:
        yield found


# --- commands ---------------------------------------------------------------------------------------------------------


def test_commands_are_those_that_there_are(folder: Path) -> None:
    (folder / "folder").mkdir()  # of training data
    wrong = [f"{name_of(path)}: {said}" for path, words in calls("probewatch") if (said := what_is_wrong(words))]
    assert wrong == [] and len(calls("probewatch")) > 30


def what_is_wrong(words: list[str]) -> str | None:
    """Why the command line does not take these words."""
    command, rest = typer.main.get_command(cli.app), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    try:
        command.make_context("probewatch", rest)
    except typer.TyperException as error:
        return f"probewatch {' '.join(words)}: {error.format_message()}"
    return None


def test_a_target_of_make_is_one_that_there_is() -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {words[0] for _, words in calls("make")} <= known


def test_a_benchmark_is_one_that_there_is() -> None:
    named = {found for path in DOCUMENTS for found in re.findall(r"python -m ([\w.]+)", path.read_text())}
    named -= {"tests.benchmarks.NAME"}
    assert [one for one in sorted(named) if not (ROOT / f"{one.replace('.', '/')}.py").exists()] == []
    assert "tests.benchmarks.console_speed" in named


def runnable(path: Path) -> list[Block]:
    return [block for block in blocks(path.read_text()) if block.mark == "run"]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if runnable(path)], ids=name_of)
def test_what_is_shown_to_run_runs(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, shown in [one for block in runnable(path) for one in commands(block)]:
        for words in words_of(line, "probewatch"):
            ran = Ran(capsys, *words)
            assert ran.code == 0, (line, ran.err)
            assert not shown or ran.out.rstrip() == shown.rstrip(), line


def test_the_demo_prints_what_the_readme_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = next(
        block.text
        for block in blocks((ROOT / "README.md").read_text())
        if block.text.startswith("probewatch label data/")
    )
    said = Ran(capsys, "demo").out.replace(f"{ROOT}/", "")  # as in this folder
    assert lines_of(said) == lines_of(shown)


def lines_of(text: str) -> list[str]:
    """Its lines, whatever kind of space stands in them."""
    return [" ".join(line.split()) for line in text.strip().splitlines()]


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if "```python" in path.read_text()], ids=name_of)
def test_examples_in_python_run(path: Path, server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"key": "pw_0_0", "log": [("a", "Write a parser."), ("b", "A poem.")], "app": Starlette()}
    for block in blocks(path.read_text()):
        if block.language == "python":
            code = block.text.replace("https://probewatch:8080", str(server.client.base_url).rstrip("/"))
            exec(compile(code, name_of(path), "exec"), dict(given))
    assert capsys.readouterr().out in ("", "coding insufficient_evidence\n")


# --- what is named ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for link in links(text):
        target, _, anchor = link.partition("#")
        there = path.parent / target if target else path
        assert there.exists(), f"{name_of(path)} links to {link}"
        assert not anchor or anchor in anchors(there.read_text()), f"{name_of(path)} links to {link}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_are_named_are_there(path: Path) -> None:
    text = path.read_text()
    folders = re.findall(r"`((?:classifier|training|service|tests|data|\.ci)/[\w./-]*)`", prose(text))
    named = {*folders, *re.findall(r"[\w./*-]+\.py\b", text)} - {"service/shapes/NAME.py"}
    missing = [one for one in named if not (any(ROOT.glob(one)) or any(path.parent.glob(one)))]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_settings_that_are_named_exist(path: Path) -> None:
    from probewatch_client.settings import HookSettings

    hooks = {f"PROBEWATCH_{name.upper()}" for name in HookSettings.__dataclass_fields__}
    known = {name for name, _, _ in settings_table()} | hooks | OTHER_SETTINGS
    assert set(re.findall(r"PROBEWATCH_[A-Z_]*[A-Z]", path.read_text())) <= known


def test_the_manual_has_every_setting_as_it_is() -> None:
    rows = [f"| `{name}` | `{default}` | {meaning} |" for name, default, meaning in settings_table()]
    text = SERVICE.read_text()
    assert [row for row in rows if row not in text] == [], "put these rows into the table of settings"
    assert len(re.findall(r"^\| `PROBEWATCH_", text, re.MULTILINE)) == len(rows), "a row of no setting stands there"


def test_metrics_that_are_named_are_counted(server: Running) -> None:
    server.publish()
    counted = set(re.findall(r"probewatch_[a-z_]+", server.client.get("/metrics").text))
    named = set(re.findall(r"`(probewatch_[a-z_]+)`", SERVICE.read_text()))
    assert len(named) >= 9 and named <= counted


def test_sentences_of_the_troubleshooting_are_said() -> None:
    source = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    said = re.sub(r'"\s*\n\s*f?"', "", source)
    section = SERVICE.read_text().partition("## Troubleshooting")[2].partition("\n## ")[0]
    pieces = [
        piece.strip(". ")
        for row in re.findall(r"^\| [^|]+\|", section, re.MULTILINE)
        for quoted in re.findall(r"`([^`]+)`", row)
        for piece in quoted.split("...")
    ]
    assert len(pieces) > 8 and [piece for piece in pieces if piece not in said] == []


def test_the_contributor_sees_every_module_in_order() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", CLASSIFIER.read_text(), re.MULTILINE)) == ORDER
