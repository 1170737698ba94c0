"""What the pages of the console say and how they draw it: caveats, scales, days, names, refusals, one word a thing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
