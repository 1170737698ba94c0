"""What holds for every test: a skip fails where services are promised, and Hypothesis does not time examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tests.serving import Process
from tests.stores import PostgresServer, postgres_server

# Machines are shared, so no example has a deadline; in CI the examples never vary, so that red means a change.
settings.register_profile("probewatch", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("probewatch")

TRAINING_MODULES = ("matplotlib", "onnx", "pandas", "rensa", "sentence_transformers", "sklearn", "torch")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("training") is not None:
        missing = [name for name in TRAINING_MODULES if find_spec(name) is None]
        if missing:
            pytest.skip(f"needs the training extra ({missing[0]} is missing): pip install 'probewatch[training]'")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Under REQUIRE_SERVICES=1, turns a skip into a failure that gives the skip's place and reason."""
    if report.skipped and os.environ.get("REQUIRE_SERVICES") == "1":
        assert isinstance(report.longrepr, tuple)  # pytest's form of a skip
        path, line, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped under REQUIRE_SERVICES=1, which promises everything: {reason}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def new_server() -> Iterator[Callable[..., Process]]:
    """Makes servers of their own process, none of which outlives the test."""
    made: list[Process] = []

    def new(store: str, *options: str) -> Process:
        made.append(Process(store, *options))
        return made[-1]

    yield new
    for server in made:
        server.clean_up()
