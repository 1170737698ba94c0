"""The rules of the house, read off the source: who imports whom, what importing does, and what stands where."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("classifier", "training", "service")

ORDER = (
    "taxonomy", "types", "errors", "reveal", "confusables", "text", "encoder", "lexicon", "shingles", "induction",
    "discovery", "signatures", "templates", "signing", "heads", "transformer", "observations", "tables", "rows",
    "labeler", "exceptions", "eprocess", "units", "evidence", "online", "verdicts", "families", "campaigns",
    "reachback", "bundle", "certification", "reviews", "catalogue_folder", "catalogue", "exchange", "pipeline",
)  # fmt: skip
"""Modules of classifier; each imports only what stands before it."""

TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", *PACKAGES, "tests", "data"}
UNSAFE_LOADERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
COMMANDS = ("service/bench_cli.py", "service/cli.py", "service/simulate_cli.py")
MAX_SHIPPED_BYTES = 25_000_000

# Written in pieces, since this file is searched too.
MACHINE_PATH = re.compile("(?<![\\w.~-])(?:/wor" + "k/|/tm" + "p/w/|/tm" + "p/house|/opt/py" + "pi)")
REGISTRY = re.compile("py" + r"pi\.org|python" + r"hosted|registry\.npm" + r"js|deb\.debian|download\.py" + r"torch")


class Import(NamedTuple):
    module: str  # dotted, absolute; `from classifier import text` counts as classifier.text
    line: int
    inside_function: bool


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        for name in _imported(node, path):
            yield Import(name, node.lineno, id(node) in late)  # type: ignore[attr-defined]


def _imported(node: ast.AST, path: Path) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            package = path.relative_to(ROOT).parts[:-level] if level else ()
            base = ".".join([*package, *([module] if module is not None else [])])
            return [f"{base}.{alias.name}" for alias in names]
        case _:
            return []


def _sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _places(package: str, wanted: re.Pattern[str], *, but_late_in: tuple[str, ...] = ()) -> list[str]:
    """`file:line imports module` for each import that matches; those inside functions of `but_late_in` are allowed."""
    return [
        f"{name}:{found.line} imports {found.module}"
        for path in _sources(package)
        for found in _imports(path)
        if wanted.match(found.module)
        and not ((name := path.relative_to(ROOT).as_posix()) in but_late_in and found.inside_function)
    ]


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip(f"what is committed is asked of git, and git says: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _defined(path: Path) -> set[str]:
    """Names that a module of ours has: what it defines or imports, and its submodules."""
    names = {child.stem for child in path.parent.iterdir()} if path.name == "__init__.py" else set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=found) | ast.ImportFrom(names=found):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in found}
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names


# --- who imports whom -------------------------------------------------------------------------------------------------


def test_every_classifier_module_has_its_place_in_the_order() -> None:
    found = {path.relative_to(ROOT / "classifier").with_suffix("").as_posix() for path in _sources("classifier")}
    assert found - {"__init__"} <= set(ORDER), "name the new module in ORDER, above those that import it"


@pytest.mark.parametrize("name", [name for name in ORDER if (ROOT / "classifier" / f"{name}.py").exists()])
def test_classifier_modules_import_only_what_stands_above(name: str) -> None:
    allowed = set(ORDER[: ORDER.index(name)])
    parts = [found.module.split(".") for found in _imports(ROOT / "classifier" / f"{name}.py")]
    assert {part[1] for part in parts if part[0] == "classifier" and len(part) > 1} <= allowed


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_none_of_its_modules(package: str) -> None:
    ours = re.compile(rf"({'|'.join(PACKAGES)})\b")
    assert [place for place in _places(package, ours) if place.startswith(f"{package}/__init__.py:")] == []


def test_what_benchmarks_import_is_there() -> None:
    """They are run by hand, so that a renamed function would be missed."""
    missing = []
    for path in _sources("tests/benchmarks"):
        for name in (
            found.module for found in _imports(path) if re.match(rf"({'|'.join(PACKAGES)}|tests)\.", found.module)
        ):
            module, _, member = name.rpartition(".")
            file = ROOT / Path(*module.split("."))
            file = file.with_suffix(".py") if file.with_suffix(".py").exists() else file / "__init__.py"
            if not (ROOT / Path(*name.split("."))).with_suffix(".py").exists() and member not in _defined(file):
                missing.append(f"{path.name}: {name}")
    assert missing == []


def test_classifier_imports_neither_service_nor_training() -> None:
    assert _places("classifier", re.compile(r"(service|training)\b")) == []


def test_service_and_training_are_apart_but_for_the_commands_that_need_it() -> None:
    assert _places("training", re.compile(r"service\b")) == []
    assert _places("service", re.compile(r"training\b"), but_late_in=COMMANDS) == []


def test_only_templates_imports_faiss_and_what_it_is_measured_against() -> None:
    places = [place for package in PACKAGES for place in _places(package, re.compile(r"faiss\b"))]
    assert {place.partition(":")[0] for place in places} == {"classifier/templates.py", "training/obvious.py"}


@pytest.mark.parametrize("package", ["classifier", "service"])
def test_nothing_that_runs_code_from_data_is_imported(package: str) -> None:
    """Beyond `frames`, which reads what another process of the same service wrote to it alone."""
    places = _places(package, re.compile(rf"({'|'.join(UNSAFE_LOADERS)})(\.|$)"))
    assert [place for place in places if not place.startswith("service/http/frames.py")] == []


def test_the_base_install_has_no_torch() -> None:
    heavy = re.compile(r"(torch|transformers|sentence_transformers|sklearn|skl2onnx|onnx|pandas|datasketch)(\.|$)")
    assert [*_places("classifier", heavy), *_places("service", heavy)] == []


def test_the_simulator_runs_without_the_training_extra() -> None:
    code = (
        "import sys, training.simulate;"
        "print(sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "sklearn", "onnx", "pandas", "matplotlib", "rensa", "service"}
    assert heavy.isdisjoint(re.findall(r"\w+", ran.stdout)) and "pyarrow" in ran.stdout


# --- what importing does ----------------------------------------------------------------------------------------------

WATCH = """
import collections.abc, importlib, json, logging, os, sys, threading
root, name = sys.argv[1:]
seen = []
PLUMBING = {os.__file__, collections.abc.__file__, "<frozen os>", "<frozen _collections_abc>"}
EVENTS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system"}

def asked_by_us(frame):
    while frame.f_code.co_filename in PLUMBING:
        frame = frame.f_back
    path = frame.f_code.co_filename
    return path.startswith(root + os.sep) and "site-packages" not in path and f"{os.sep}.venv{os.sep}" not in path

def watched(read):
    def get(self, key):
        if asked_by_us(sys._getframe(1)):
            seen.append(f"reads the environment: {key}")
        return read(self, key)
    return get

def start(self, start=threading.Thread.start):
    seen.append(f"starts the thread {self.name}")
    start(self)

threading.Thread.start = start
os._Environ.__getitem__ = watched(os._Environ.__getitem__)
sys.addaudithook(lambda event, arguments: seen.append(event) if event in EVENTS else None)
importlib.import_module(name)
seen += [f"logs to {handler}" for handler in logging.getLogger().handlers]
print(json.dumps(seen))
"""


def _watched_import(name: str, root: Path) -> list[str]:
    command = [sys.executable, "-c", WATCH, str(root), name]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return list(json.loads(ran.stdout))


def test_importing_does_nothing() -> None:
    modules = [
        name for name in ("classifier.pipeline", "service.cli") if (ROOT / f"{name.replace('.', '/')}.py").exists()
    ]
    assert {name: _watched_import(name, ROOT) for name in modules} == {name: [] for name in modules}


def test_the_watch_sees_what_it_looks_for(tmp_path: Path) -> None:
    lines = [
        "import logging, os, socket, subprocess, sys, threading",
        "os.environ.get('A'), os.getenv('B'), 'C' in os.environ",
        "logging.basicConfig()",
        "subprocess.run([sys.executable, '-c', ''])",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 0))",
        "threading.Thread(target=threading.Event().wait, args=(9,), name='ours', daemon=True).start()",
    ]
    (tmp_path / "busy.py").write_text("\n".join(lines), encoding="utf-8")
    seen = _watched_import("busy", tmp_path)
    assert [f"reads the environment: {key}" for key in "ABC"] == seen[:3]
    assert {"subprocess.Popen", "socket.bind", "starts the thread ours"} <= set(seen)
    assert seen[-1].startswith("logs to <StreamHandler")


# --- what stands where ------------------------------------------------------------------------------------------------


def test_the_top_level_is_the_agreed_one() -> None:
    top = {name.split("/")[0] for name in _tracked()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_data_holds_no_code_and_fits_the_wheel() -> None:
    files = [path for path in (ROOT / "data").rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix in {".py", ".pyc", ".pyx", ".sh", ".so"}] == []
    assert sum(path.stat().st_size for path in files) <= MAX_SHIPPED_BYTES


def test_no_file_names_a_machine_or_a_registry() -> None:
    # A learnt vocabulary is no mention: it may hold any string.
    names = [name for name in _tracked() if Path(name).name != "tokenizer.json"]
    texts = {name: (ROOT / name).read_bytes().decode("utf-8", "ignore") for name in names}
    assert [name for name, text in texts.items() if MACHINE_PATH.search(text) or REGISTRY.search(text)] == []
