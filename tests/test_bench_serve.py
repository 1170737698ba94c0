"""`probewatch bench serve`: the load that it makes, the figures that it takes from histograms, and its errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from classifier.errors import ProbewatchError
from service.bench.load import post, run_load
from service.bench.serve import bucket_quantile, requests
from service.bench.servers import probewatch_server
from service.store.keys import Role, add_key
from service.store.opening import open_store
from service.store.upgrade import upgrade
from tests.command import Ran
from tests.serving import Running, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    store = tmp_path_factory.mktemp("bench") / "store.db"
    with running(f"sqlite:///{store}", most_wait_ms=60_000) as opened:
        yield opened


def port_of(server: Running) -> int:
    port = server.client.base_url.port
    assert port is not None
    return port


@pytest.mark.parametrize("rate", [None, 50.0])
def test_every_answer_of_a_load_is_counted(server: Running, rate: float | None) -> None:
    before = server.service.metrics.counts()
    loaded = run_load(port_of(server), requests(1)[:50], 4, 0.3, rate)
    after = server.service.metrics.counts()
    assert set(loaded.statuses) == {200} and loaded.unanswered == 0
    assert loaded.n_answers == len(loaded.took) == after["received"] - before["received"] > 0
    assert after["scored"] - before["scored"] == loaded.n_answers
    assert loaded.rate == pytest.approx(loaded.n_answers / loaded.seconds)
    assert rate is None or loaded.n_answers <= rate * 0.3


def test_refusals_are_told_from_answers(server: Running) -> None:
    loaded = run_load(port_of(server), [post("/v1/score", b"{}")], 2, 0.1)
    assert set(loaded.statuses) == {422} and loaded.rate == 0 and math.isnan(loaded.milliseconds(0.5))


def test_requests_of_a_batch_hold_each_event_once(server: Running) -> None:
    sent = requests(256)
    assert len(sent) == 32 and all(one.count(b'"prompt":') == 256 for one in sent)


def test_quantiles_of_a_histogram() -> None:
    buckets = {1.0: 10.0, 2.0: 30.0, 4.0: 40.0, math.inf: 40.0}
    assert bucket_quantile(buckets, 0.5) == pytest.approx(1.5)  # the 20th of 40, halfway through the second bucket
    assert bucket_quantile(buckets, 1.0) == 4.0
    assert bucket_quantile({1.0: 0.0, math.inf: 8.0}, 0.99) == 1.0
    assert math.isnan(bucket_quantile({1.0: 0.0, math.inf: 0.0}, 0.5))


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBEWATCH_BUNDLE", str(tmp_path / "nowhere"))
    with (
        pytest.raises(ProbewatchError, match=r"did not get ready: .*nowhere"),
        probewatch_server(f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seconds", "0"], "--seconds"),
        (["--overload", "-1"], "--overload"),
        (["--folder", "nowhere"], "--folder"),
        (["--store", "mysql://x"], "expected sqlite:///FILE or postgresql://"),
    ],
)
def test_mistakes_are_one_sentence(capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    ran = Ran(capsys, "bench", "serve", *options)
    assert (ran.code, said in ran.sentence) == (2, True), ran.err


def test_a_store_in_use_is_not_filled(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with closing(open_store(url)) as store:
        upgrade(store)
        with store.writing() as connection:
            add_key(connection, Role.SCORER, "gateway", None, "test")
    ran = Ran(capsys, "bench", "serve", "--store", url)
    assert ran.code == 2 and "expected an empty one" in ran.sentence
