"""What the pages of the console say and how they draw it: caveats, scales, days, names, refusals, one word a thing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from typing import Any

import httpx
import pytest

from service.console import account, campaigns, catalogue, trying
from service.console.assets import FILES, text_of
from service.console.evidence_path import EvidencePath
from service.console.plots import network_figure, path_figure
from service.console.review_words import ending_words
from service.console.signature_rows import families_of
from service.http.problems import PROBLEM_JSON
from service.report_words import moment, percent, span
from service.score import score
from service.store.ended import end_sessions
from service.store.keys import Role, add_key
from service.store.overview import MemberUse
from tests.console_store import POPULATION, imported, sample_run, send, token_in
from tests.serving import Running, running
from tests.test_console import words

LOST = "pw_review_bug"
PAGES_OF_ACCOUNT = ("/account", "/account/sheet")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A console without keys over the sample; what a test writes is of an account of its own."""
    folder = tmp_path_factory.mktemp("words")
    url = imported(sample_run(folder / "run"), f"sqlite:///{folder / 'store.db'}")
    with running(url, population=POPULATION) as opened:
        opened.publish()
        yield opened


def unbroken(text: str) -> str:
    """As `words` has it."""
    return " ".join(text.split())


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
    one = server.client.get("/v1/accounts/acct_0028").json()
    expected = round(100 * one["log10_max_e"] / (4 * one["log10_threshold"]), 2)
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


def test_beside_a_known_application_no_mark_is_claimed(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the probabilities are of the rest, by which the capability is not named."""
    monkeypatch.setattr(trying, "score", lambda prompt, pipeline: score(prompt, pipeline) | {"benign_app": "an_app"})
    page = send(server.client, "/try", "/try", prompt="Write a parser for this log format.").text
    assert bars(page) == [] and page.count('<svg class="bar') == 4 and "named from" not in page
    assert "Probabilities are of what stands beside the known application's text" in words(page)


def test_a_bar_that_shows_less_than_there_is_ends_in_an_arrow(server: Running) -> None:
    page = server.client.get("/accounts").text
    drawn = re.findall(r'(?s)href="/account\?id=(acct_\d+)".*?<svg class="bar(.*?)</svg>', page)
    accounts = {name: server.client.get(f"/v1/accounts/{name}").json() for name, _ in drawn}
    beyond = {name for name, one in accounts.items() if one["log10_max_e"] > 4 * one["log10_threshold"]}
    assert {name for name, bar in drawn if 'class="beyond"' in bar} == beyond
    assert 0 < len(beyond) < len(drawn) and "ends in an arrow there is more than it can show" in words(page)


# --- days -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "now", "said"),
    [
        (datetime(2099, 2, 1, tzinfo=UTC), 0, "last day 31\u00a0Jan\u00a02099"),
        (datetime(2020, 3, 1, tzinfo=UTC), 2**60, "last day was 29\u00a0Feb\u00a02020"),
        (datetime(2099, 2, 1, 14, 5, tzinfo=UTC), 0, "until 1\u00a0Feb\u00a02099, 14:05"),
        (datetime(2020, 3, 1, 0, 0, 1, tzinfo=UTC), 2**60, "ended 1\u00a0Mar\u00a02020, 00:00"),
    ],
)
def test_a_review_that_ends_with_a_day_names_that_day(until: datetime, now: int, said: str) -> None:
    assert ending_words(round(until.timestamp() * 1e6), now) == said


def test_the_last_day_given_is_the_last_day_shown(server: Running) -> None:
    fields = {"id": "acct_0027", "reason": "agreed", "until": "2099-01-31", "family": "pw_tool_rollout"}
    for state in ("dismissed", "exempted"):
        assert send(server.client, "/try", "/account/review", state=state, **fields).status_code == 303
    page, sheet = (words(server.client.get(path, params={"id": "acct_0027"}).text) for path in PAGES_OF_ACCOUNT)
    assert page.count("last day 31 Jan 2099") == 3 and sheet.count("last day 31 Jan 2099") == 2
    assert "Feb 2099" not in page + sheet and "Last day (UTC) that it holds" in page


# --- campaigns --------------------------------------------------------------------------------------------------------


def first_campaign(server: Running) -> dict[str, Any]:
    first = server.client.get("/v1/campaigns").json()["campaigns"][0]["campaign_id"]
    return dict(server.client.get(f"/v1/campaigns/{first}").json())


def test_a_campaign_says_when_it_was_flagged(server: Running) -> None:
    campaign = first_campaign(server)
    flagged, first = (datetime.fromisoformat(campaign[name]) for name in ("flagged_at", "first_seen"))
    said = words(server.client.get("/campaign", params={"id": campaign["campaign_id"]}).text)
    assert f"Flagged at {unbroken(moment(flagged))} , after {span(flagged - first)}" in said


def test_the_picture_of_a_campaign_names_accounts_and_families(server: Running) -> None:
    campaign = first_campaign(server)
    page = server.client.get("/campaign", params={"id": campaign["campaign_id"]}).text
    found = re.search(r'(?s)id="figures">(.*?)</script>', page)
    assert found is not None
    edges, accounts, *families = json.loads(found[1])["network"]["data"]
    assert set(accounts["text"]) == set(campaign["accounts"]) and set(accounts["x"]) == {0}
    drawn = [name for one in families for name in one["text"]]
    assert sorted(drawn) == sorted(campaign["template_families"]) and {x for one in families for x in one["x"]} == {1}
    assert accounts["textposition"] == "middle left" and {one["textposition"] for one in families} == {"middle right"}
    assert min(x for x in edges["x"] if x is not None) == 0 and max(x for x in edges["x"] if x is not None) == 1


def test_a_long_name_is_shortened_in_the_picture_alone() -> None:
    name = "<b>" + "n" * 60
    data = network_figure([MemberUse(name, "family", 3, 0)], {})["data"]
    assert data[1]["text"] == ["&lt;b&gt;" + "n" * 24 + "…"] and len(data[1]["customdata"][0][0]) == 60 + 9
    assert (data[1]["y"], data[2]["y"]) == ([0.5], [0.5])


def test_the_threshold_is_named_where_no_line_crosses_its_name() -> None:
    layout = path_figure(EvidencePath([0, 1], [0.0, 3.2], [[0.0] * 4, [3.2] * 4]), 3.24)["layout"]
    (line,) = layout["shapes"]
    assert (line["y0"], line["y1"], line["name"], line["showlegend"]) == (
        3.24,
        3.24,
        "threshold, 10<sup>3.2</sup>",
        True,
    )
    assert layout["showlegend"] and "annotations" not in layout


def test_nothing_is_told_by_being_struck_through() -> None:
    styles = [text_of(package, path) for package, path, kind in FILES.values() if kind.startswith("text/css")]
    assert len(styles) == 2 and [css for css in styles if "line-through" in css] == []


# --- refusals ---------------------------------------------------------------------------------------------------------

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[Role, str]]]:
    """A console with keys, and one of each role."""
    with running(f"sqlite:///{tmp_path_factory.mktemp('locked') / 'store.db'}") as opened:
        with opened.service.store.writing() as connection:
            keys = {role: add_key(connection, role, "ann", None, "test") for role in Role}
        opened.service.gate.refresh()
        yield opened, keys


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "title"),
    [
        ("GET", "/acounts", {}, 404, "Not found"),
        ("GET", "/account/review", {}, 405, "Method not allowed"),
        ("POST", "/try", {"content-type": "application/json"}, 415, "Unsupported media type"),
        ("POST", "/try", {"content-type": "application/x-www-form-urlencoded"}, 400, "Bad request"),
        ("GET", "/", {"host": "evil.example"}, 421, "Misdirected request"),
        ("GET", "/docs/more", {}, 404, "Not found"),
    ],
)
def test_a_browser_is_told_on_a_page(
    server: Running, method: str, path: str, headers: dict[str, str], status: int, title: str
) -> None:
    answer = server.client.request(
        method, path, headers={**BROWSER, **headers}, content=b"" if method == "GET" else b"x"
    )
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert f"<h1>{title}</h1>" in answer.text and 'role="alert"' in answer.text
    assert status != 404 or "There is no such page." in words(answer.text)
    assert (
        answer.headers["x-frame-options"] == "DENY"
        and "default-src 'none'" in answer.headers["content-security-policy"]
    )
    plain = server.client.request(method, path, headers=headers, content=b"" if method == "GET" else b"x")
    assert plain.status_code == status and (status == 400 or plain.headers["content-type"] == PROBLEM_JSON)


@pytest.mark.parametrize(
    "path", ["/v1/accounts/unseen", "/v1/unseen", "/static/unseen.js", "/v1/accounts?decision=guilty"]
)
def test_a_path_of_programs_answers_browsers_too_with_a_document(server: Running, path: str) -> None:
    answer = server.client.get(path, headers=BROWSER)
    assert answer.status_code in (404, 422) and answer.headers["content-type"] == PROBLEM_JSON


def test_a_form_of_another_page_is_refused_on_a_page(server: Running) -> None:
    server.client.get("/try")
    answer = server.client.post("/try", data={"prompt": "x", "token": "0"}, headers=BROWSER)
    assert answer.status_code == 403 and "load the page anew" in words(answer.text)


def test_with_keys_a_browser_is_led_to_the_login_or_told(locked: tuple[Running, dict[Role, str]]) -> None:
    server, keys = locked
    base = server.client.base_url
    with httpx.Client(base_url=base, headers=BROWSER, timeout=60) as stranger:
        assert stranger.get("/accounts").headers["location"] == "/login?next=%2Faccounts"
        unknown = stranger.get("/acounts")
        assert (unknown.status_code, "There is no such page." in unknown.text) == (404, True)
        assert stranger.get("/v1/accounts").json()["status"] == 401
    with httpx.Client(base_url=base, headers=BROWSER, timeout=60) as analyst:
        assert send(analyst, "/login", "/login", key=keys[Role.ANALYST], next="/").status_code == 303
        assert analyst.get("/acounts").status_code == 404
        refused = analyst.get("/alerts")
        assert refused.status_code == 403 and "A key with the role analyst may not do this." in words(refused.text)
        assert "<h1>Forbidden</h1>" in refused.text
        token = token_in(analyst.get("/try").text)
        with server.service.store.writing() as connection:  # as when the session is over
            end_sessions(connection, keys[Role.ANALYST].split("_")[1], "test")
        server.service.gate.refresh()
        over = analyst.post("/try", data={"prompt": "x", "token": token})
        assert (over.status_code, over.headers["location"]) == (303, "/login?next=%2F")


def test_a_page_that_is_not_ready_says_when_to_try_again(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.service.scorer, "published", None)
    told = server.client.get("/accounts", headers=BROWSER)
    assert (told.status_code, told.headers["retry-after"]) == (503, "1") and "<h1>Service unavailable" in told.text


# --- what this bundle does not know -----------------------------------------------------------------------------------


def test_a_family_that_this_bundle_does_not_know_is_said_to_be_unknown(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a run was labelled with another catalogue."""
    for module in (account, campaigns, catalogue):
        monkeypatch.setattr(
            module, "families_of", lambda given: {k: v for k, v in families_of(given).items() if k != LOST}
        )
    campaign = first_campaign(server)["campaign_id"]
    pages = {
        path: server.client.get(path, params=given).text
        for path, given in (
            ("/account", {"id": "acct_0032"}),
            ("/campaign", {"id": campaign}),
            ("/templates", {}),
            ("/template", {"family": LOST}),
        )
    }
    for path in ("/account", "/campaign", "/templates"):
        (row,) = re.findall(rf'(?s)<th role="rowheader" scope="row">[^\n]*?family={LOST}"[^\n]*</tr>', pages[path])
        said = words(row)
        assert "unknown: not in this bundle or catalogue" in said, path
        assert "none named" not in said and "what its slots ask for" not in said, path
    assert "This bundle and catalogue do not know the family" in words(pages["/template"])
    assert "Tier unknown Technique unknown Matched" in words(pages["/template"])
    assert '"name":"unknown family"' in pages["/campaign"] and '"text":["pw_review_bug"]' in pages["/campaign"]


# --- one word for a thing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("/models", "Context: models (2)"),
        ("/organisations", "Context: organisations and end users"),
        ("/beginnings", "Context: accounts that began together"),
    ],
)
def test_context_says_what_it_is_and_that_it_is_no_evidence(server: Running, path: str, heading: str) -> None:
    page = server.client.get(path).text
    assert f"<h1>{heading}</h1>" in page and f"<title>{heading.split(' (')[0].split(' and')[0]}" in page
    assert "Context is what requests come with beside their words" in words(page)
    assert "is never evidence: no verdict goes by it." in words(page)


def test_the_context_of_an_account_says_so_too(server: Running) -> None:
    said = words(server.client.get("/account", params={"id": "acct_0032"}).text)
    assert "Context, never evidence What its requests came with beside their words. No verdict goes by it." in said


OTHER_WORDS = re.compile(
    r"\b(scores?|confidence|distance|utterances?|results?|harmless|payloads?|events of|made to extract|active)\b", re.I
)
"""What has another word in this project, or had one on another page."""


def test_pages_have_one_word_for_a_thing(server: Running) -> None:
    campaign = first_campaign(server)["campaign_id"]
    paths = ["/", "/accounts", "/account?id=acct_0032", "/account/sheet?id=acct_0032", "/campaigns", "/templates"]
    paths += [f"/campaign?id={campaign}", f"/template?family={LOST}", "/propose", "/try", "/alerts"]
    paths += ["/models", "/organisations", "/beginnings"]
    pages = {path: re.sub("<bdi>.*?</bdi>", "", server.client.get(path).text) for path in paths}  # without names
    found = {path: OTHER_WORDS.findall(words(page)) for path, page in pages.items()}
    assert {path: others for path, others in found.items() if others} == {}


def test_what_a_decision_is_called_is_the_same_in_the_tally_and_in_the_table(server: Running) -> None:
    tally = re.findall(r'<span class="number">[\d,]+</span> ([^<]+)</a>', server.client.get("/").text)
    assert tally == ["flagged", "to review", "clear", "insufficient evidence"]
    assert "insufficient evidence" in words(server.client.get("/accounts").text)


def test_a_power_is_set_as_one_under_a_plot(server: Running) -> None:
    page = server.client.get("/account", params={"id": "acct_0032"}).text
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert re.search(r"now 10<sup>[\d.]+</sup>, at its strongest", captions[0]) and "10^" not in "".join(captions)


def test_days_are_written_as_moments_are(server: Running) -> None:
    said = words(server.client.get("/models").text)
    assert re.search(r"\b14 Sep 2026\b", said) and not re.search(r"\b2026-09-\d\d\b", said)
