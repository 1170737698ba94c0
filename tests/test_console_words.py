"""What the pages of the console say and how they draw it: caveats, scales, days, names, refusals, one word a thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest

from service.report_words import percent
from service.score import score
from tests.console_store import POPULATION, imported, sample_run, send
from tests.serving import Running, running
from tests.test_console import words

FLAGGED, FAMILY = "acct_0032", "pw_review_bug"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A console without keys over the sample; what a test writes is of an account of its own."""
    folder = tmp_path_factory.mktemp("words")
    url = imported(sample_run(folder / "run"), f"sqlite:///{folder / 'store.db'}")
    with running(url, population=POPULATION) as opened:
        opened.publish()
        yield opened


def test_what_says_little_is_shown_with_a_caveat(server: Running) -> None:
    said = "Fewer than 20 letters are too few to tell what is asked for: the probabilities are a guess."
    assert said in words(send(server.client, "/try", "/try", prompt="asdf qwer").text)
    telling = send(server.client, "/try", "/try", prompt="Write a parser for this log format.").text
    assert "are a guess" not in telling and 'class="caveat"' not in telling


# --- bars -------------------------------------------------------------------------------------------------------------


def bars(page: str) -> list[tuple[float, float]]:
    """Of each bar with a mark: how far it is filled, and where the mark stands, in percent."""
    found = re.findall(r'(?s)class="fill" width="([0-9.]+)".*?class="tick" x="([0-9.]+)"', page)
    return [(float(width), float(at) + 0.5) for width, at in found]


def test_the_same_evidence_has_the_same_bar_in_every_table(server: Running) -> None:
    account = server.client.get("/v1/accounts/acct_0028").json()
    expected = round(100 * account["log10_max_e"] / (4 * account["log10_threshold"]), 2)
    for path in ("/accounts?search=acct_0028", "/", "/accounts"):
        page = server.client.get(path).text
        assert (expected, 25) in bars(page) and {tick for _, tick in bars(page)} == {25}
        assert "from 0 to four times the threshold's" in words(page)


def test_a_probability_stands_beside_the_least_that_names_its_capability(server: Running) -> None:
    prompt, pipeline = "Write a parser for this log format.", server.service.scorer.pipeline
    page = send(server.client, "/try", "/try", prompt=prompt).text
    least = [round(100 * value, 2) for value in pipeline.labeler.thresholds.tolist()]
    found = score(prompt, pipeline)["probabilities"].values()
    assert [pair[0] for pair in bars(page)] == [round(100 * value, 2) for value in found]
    assert [pair[1] for pair in bars(page)] == pytest.approx(least, abs=0.02)
    assert [f"named from {percent(value / 100)}" in unescape(page) for value in least] == [True] * 3


def test_a_bar_that_shows_less_than_there_is_ends_in_an_arrow(server: Running) -> None:
    page = server.client.get("/accounts").text
    drawn = re.findall(r'(?s)href="/account\?id=(acct_\d+)".*?<svg class="bar(.*?)</svg>', page)
    accounts = {name: server.client.get(f"/v1/accounts/{name}").json() for name, _ in drawn}
    beyond = {name for name, one in accounts.items() if one["log10_max_e"] > 4 * one["log10_threshold"]}
    assert {name for name, bar in drawn if 'class="beyond"' in bar} == beyond
    assert 0 < len(beyond) < len(drawn) and "ends in an arrow there is more than it can show" in words(page)
