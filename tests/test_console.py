"""The console over HTTP: who gets in, what each page says, what each review does, and that nothing hostile gets out."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from classifier.evidence import Baselines, replay
from classifier.types import Decision
from classifier.units import merge_units
from service.console.accounts import PAGE
from service.console.evidence_path import evidence_path
from service.console.links import within
from service.console.review_words import EFFECTS
from service.http.security import FORMS, PAGES
from service.score import score
from service.store.codec import unit_table
from service.store.ended import end_sessions
from service.store.keys import Role, add_key, revoke_key
from service.store.reading import read_account, read_units
from tests.console_store import POPULATION, SAMPLE, imported, sample_run, send, token_in
from tests.serving import Running, running

FLAGGED, FAMILY = "acct_0032", "pw_review_bug"
XSS = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e'
LATER = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the sample."""
    folder = tmp_path_factory.mktemp("console")
    imported(sample_run(folder / "run"), f"sqlite:///{folder / 'store.db'}")
    return folder / "store.db"


@pytest.fixture(scope="module")
def demo(filled: Path) -> Iterator[Running]:
    """A console without keys over the sample, in which nothing is written."""
    with running(f"sqlite:///{filled}", population=POPULATION) as server:
        server.publish()
        yield server


@pytest.fixture(scope="module")
def mine(filled: Path) -> Iterator[Running]:
    """The same for tests that write, each of an account of its own."""
    store = shutil.copy(filled, filled.with_name("mine.db"))
    with running(f"sqlite:///{store}", population=2 * POPULATION) as server:
        server.publish()
        yield server


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('empty') / 'store.db'}") as server:
        yield server


class Locked:
    """A console with keys, and browsers that came with one of a role."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.keys = {role: self.new_key(role) for role in Role}

    def new_key(self, role: Role) -> str:
        with self.server.service.store.writing() as connection:
            key = add_key(connection, role, f"the {role}", None, "test")
        self.server.service.gate.refresh()
        return key

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.server.client.base_url, timeout=60)

    @contextmanager
    def logged_in(self, key: str) -> Iterator[httpx.Client]:
        with self.browser() as client:
            answer = send(client, "/login", "/login", key=key, next="/accounts")
            assert (answer.status_code, answer.headers["location"]) == (303, "/accounts")
            yield client


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    with running(f"sqlite:///{tmp_path_factory.mktemp('locked') / 'store.db'}") as server:
        yield Locked(server)


def addresses(server: Running, account: str = FLAGGED, family: str = FAMILY) -> list[str]:
    campaigns = server.client.get("/v1/campaigns").json()["campaigns"]
    of_campaign = [f"/campaign?id={campaigns[0]['campaign_id']}"] if campaigns else []
    ids = str(httpx.QueryParams({"id": account}))
    families = str(httpx.QueryParams({"family": family}))
    plain = ["/", "/accounts", "/accounts.csv", "/campaigns", "/templates", "/try"]
    return [*plain, f"/account?{ids}", f"/account/sheet?{ids}", f"/template?{families}", *of_campaign]


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<script.*?</script>", "", page))).split())


def story(server: Running, account: str) -> dict[str, Any]:
    return dict(server.client.get(f"/v1/accounts/{account}").json())


# --- who gets in ------------------------------------------------------------------------------------------------------


def test_without_keys_it_is_open_on_this_machine_alone(empty: Running) -> None:
    assert empty.client.get("/").status_code == 200
    assert empty.client.get("/login").headers["location"] == "/"
    assert empty.client.get("/", headers={"host": "evil.example"}).status_code == 421


def test_a_browser_is_led_to_the_login_and_back(locked: Locked) -> None:
    with locked.browser() as client:
        answer = client.get("/accounts?decision=flag")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Faccounts%3Fdecision%3Dflag")
        page = client.get(answer.headers["location"]).text
        assert 'name="next" value="/accounts?decision=flag"' in page
    for role in (Role.ANALYST, Role.ADMIN):
        with locked.logged_in(locked.keys[role]) as client:
            assert [client.get(path).status_code for path in ("/", "/accounts", "/try")] == [200, 200, 200]


@pytest.mark.parametrize("key", ["", "nonsense", f"pw_{'0' * 12}_{'x' * 43}", XSS])
def test_a_wrong_key_is_refused(locked: Locked, key: str) -> None:
    with locked.browser() as client:
        answer = send(client, "/login", "/login", key=key)
        assert answer.status_code == 403 and "This is no key in use" in answer.text
        assert client.get("/").status_code == 303


def test_a_scorer_has_no_console(locked: Locked) -> None:
    with locked.browser() as client:
        answer = send(client, "/login", "/login", key=locked.keys[Role.SCORER])
        assert answer.status_code == 403 and "sending traffic" in answer.text
        bearer = {"authorization": f"Bearer {locked.keys[Role.SCORER]}"}
        assert client.get("/", headers=bearer).status_code == 403


def test_the_cookie_is_for_this_site_and_no_script(locked: Locked) -> None:
    with locked.browser() as client:
        answer = send(client, "/login", "/login", key=locked.keys[Role.ANALYST])
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie and "secure" not in cookie
        behind_tls = {"x-forwarded-proto": "https"}
        token = token_in(client.get("/try").text)
        fields = {"token": token, "key": locked.keys[Role.ANALYST]}
        assert "secure" in client.post("/login", data=fields, headers=behind_tls).headers["set-cookie"].lower()


def test_a_session_ends_with_its_key_and_with_logging_out(locked: Locked) -> None:
    key = locked.new_key(Role.ANALYST)
    with locked.logged_in(key) as client, locked.logged_in(key) as other:
        assert send(client, "/try", "/logout").headers["location"] == "/login"
        assert (client.get("/").status_code, other.get("/").status_code) == (303, 200)
        with locked.server.service.store.writing() as connection:
            revoke_key(connection, key.split("_")[1], "test")
        locked.server.service.gate.refresh()
        assert other.get("/").status_code == 303


def test_sessions_of_a_key_are_ended_in_every_browser(locked: Locked) -> None:
    key = locked.new_key(Role.ANALYST)
    with locked.logged_in(key) as client, locked.logged_in(key) as other:
        assert send(client, "/try", "/logout", everywhere="yes").headers["location"] == "/login"
        assert other.get("/").status_code == 303
        with locked.logged_in(key) as later:
            assert later.get("/").status_code == 200
            with locked.server.service.store.writing() as connection:
                end_sessions(connection, key.split("_")[1], "test")
            locked.server.service.gate.refresh()
            assert later.get("/").status_code == 303
    with locked.logged_in(locked.keys[Role.ANALYST]) as of_another_key:
        assert of_another_key.get("/").status_code == 200


def test_a_session_ends_when_its_key_expires(locked: Locked) -> None:
    with locked.server.service.store.writing() as connection:
        key = add_key(connection, Role.ANALYST, "short-lived", 1, "test")
    locked.server.service.gate.refresh()
    with locked.logged_in(key) as client:
        assert client.get("/").status_code == 200
        with locked.server.service.store.writing() as connection:
            connection.execute(text("UPDATE api_keys SET expires = 1 WHERE name = 'short-lived'"))
        locked.server.service.gate.refresh()
        assert client.get("/").status_code == 303


def test_a_forged_or_altered_session_is_none(locked: Locked) -> None:
    with locked.logged_in(locked.keys[Role.ANALYST]) as client:
        cookie = client.cookies["probewatch_session"]
        key_id, until, rest = cookie.split(".", 2)
        for forged in (f"{key_id}.{int(until) + 1}.{rest}", cookie[:-1] + "0" * (cookie[-1] != "0"), "a.b.c.d", "."):
            with locked.browser() as fresh:
                assert fresh.get("/", headers={"cookie": f"probewatch_session={forged}"}).status_code == 303


def test_a_session_opens_the_console_and_not_the_api(locked: Locked) -> None:
    with locked.logged_in(locked.keys[Role.ADMIN]) as client:
        assert client.get("/v1/accounts").status_code == 401
        assert client.post("/v1/reload").status_code == 401


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "", "a", "/a\nb"])
def test_a_login_leads_nowhere_else(target: str) -> None:
    assert within(target) == "/"
    assert within("/accounts?a=b") == "/accounts?a=b"


# --- forms ------------------------------------------------------------------------------------------------------------


def test_a_form_of_another_site_does_nothing(mine: Running) -> None:
    client = mine.client
    fields = {"id": FLAGGED, "state": "dismissed", "reason": "x", "token": token_in(client.get("/try").text)}
    elsewhere = {"sec-fetch-site": "cross-site"}
    assert client.post("/account/review", data=fields, headers=elsewhere).status_code == 403
    assert client.post("/account/review", data=fields | {"token": "0" * 48}).status_code == 403
    without = {name: value for name, value in fields.items() if name != "token"}
    assert client.post("/account/review", data=without).status_code == 403
    with httpx.Client(base_url=client.base_url) as no_cookie:
        assert no_cookie.post("/account/review", data=fields).status_code == 403
    assert client.post("/account/review", json=fields).status_code == 415
    assert story(mine, FLAGGED)["reviews"] == []


def test_every_form_has_a_token(demo: Running) -> None:
    for path in addresses(demo):
        page = demo.client.get(path).text
        forms = re.findall(r'(?s)<form[^>]*method="post".*?</form>', page)
        assert all(f'value="{token_in(page)}"' in form for form in forms), path


def test_what_is_no_form_is_a_page_that_says_so(empty: Running) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = empty.client.post("/try", content=b"\xff\xff", headers=kind)
    assert answer.status_code == 400 and "cannot be read" in answer.text
    many = "&".join(f"a{i}=1" for i in range(60)).encode()
    assert empty.client.post("/try", content=many, headers=kind).status_code == 400


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_load_nothing_from_elsewhere_and_run_no_inline_script(demo: Running) -> None:
    for path in addresses(demo):
        answer = demo.client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        if path != "/accounts.csv":
            assert "default-src 'none'" in policy and "script-src 'self';" in policy and "form-action 'self'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert re.findall(r"<script(?! type=\"application/json\"| src=\"/static/)", answer.text) == []
        assert re.findall(r"\son[a-z]+=|https?://", answer.text) == []


def test_the_first_page_is_small_without_the_plot_library(demo: Running) -> None:
    page = demo.client.get("/").text
    files = [path for path in re.findall(r'"(/static/[^"]+)"', page) if "plotly" not in path]
    assert len(files) == 3
    assert len(page) + sum(len(demo.client.get(path).content) for path in files) < 300_000


def test_files_are_kept_and_known_by_their_content(demo: Running) -> None:
    (path,) = re.findall(r'"(/static/plotly[^"]+)"', demo.client.get("/").text)
    answer = demo.client.get(path)
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-encoding"] == "gzip"
    assert re.fullmatch(r"/static/plotly\.js\?v=[0-9a-f]{12}", path)
    assert demo.client.get("/static/secrets.js").status_code == 404


def test_the_overview_says_what_the_run_said(demo: Running) -> None:
    said = words(demo.client.get("/").text)
    assert (
        "12 of 47 accounts are probing: 6 for coding, 6 for agentic reasoning and 4 for long-horizon planning" in said
    )
    assert "Campaigns (2)" in said and said.count("6 accounts , 129 prompts") == 2
    assert "258 of 1,914 prompts (13 %) match a known extraction template." in said
    assert "0 scored, 0 shed" in said and demo.service.scorer.pipeline.bundle_id in said


@pytest.mark.parametrize("path", ["/", "/accounts", "/accounts?decision=flag", "/campaigns", "/templates", "/try"])
def test_an_empty_store_has_pages_that_say_so(empty: Running, path: str) -> None:
    answer = empty.client.get(path)
    assert answer.status_code == 200
    assert "Traceback" not in answer.text and "None" not in words(answer.text)
    if path == "/":
        assert "No account was seen yet." in answer.text and "Nothing was sent yet" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/account?id=unseen", 404),
        ("/account", 404),
        ("/account/sheet?id=unseen", 404),
        ("/campaign?id=unseen", 404),
        ("/template?family=unseen", 404),
        ("/accounts?decision=guilty", 422),
        ("/accounts?capability=guilty", 422),
        ("/accounts?since=soon", 422),
        ("/accounts?after=1_x_2", 422),
        ("/accounts?after=nothing", 422),
        ("/accounts.csv?since=soon", 422),
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(empty: Running, path: str, status: int) -> None:
    answer = empty.client.get(path)
    assert answer.status_code == status and answer.headers["content-type"].startswith("text/html")
    assert 'role="alert"' in answer.text


# --- the list of accounts ---------------------------------------------------------------------------------------------


def listed(server: Running, **asked: Any) -> list[str]:
    """Ids of all pages of a list, in order."""
    found, path = list[str](), f"/accounts?{httpx.QueryParams(asked)}"
    while path:
        page = server.client.get(path).text
        found += [
            unescape(one) for one in re.findall(r'<th role="rowheader"[^>]*><a class="id"[^>]*><bdi>(.*?)<', page)
        ]
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = unescape(following[1]) if following is not None else ""
    return found


def test_the_list_is_ranked_and_filters_agree_with_the_api(demo: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.console.accounts.PAGE", 5)
    rows = demo.client.get("/v1/accounts", params={"limit": 500}).json()["accounts"]
    order = {decision: -i for i, decision in enumerate(Decision)}
    want = sorted(rows, key=lambda row: (order[row["decision"]], -row["log10_max_e"]))
    everyone = listed(demo)
    assert sorted(everyone) == sorted(row["account_id"] for row in rows) and PAGE == 50
    by_id = {row["account_id"]: row for row in rows}
    assert [by_id[one]["log10_max_e"] for one in everyone] == [row["log10_max_e"] for row in want]
    for decision in Decision:
        assert set(listed(demo, decision=decision)) == {r["account_id"] for r in rows if r["decision"] == decision}
    campaign = by_id[FLAGGED]["campaign_id"]
    assert set(listed(demo, campaign=campaign)) == {r["account_id"] for r in rows if r["campaign_id"] == campaign}
    for capability in ("coding", "agentic_reasoning", "other"):
        named = {row["account_id"] for row in rows if capability in row["capabilities"]}
        assert set(listed(demo, capability=capability)) == named
    assert set(listed(demo, family="pw_pair_grader")) == {
        row["account_id"] for row in demo.client.get("/v1/accounts?family=pw_pair_grader").json()["accounts"]
    }
    assert listed(demo, search="CCT_003") == [one for one in everyone if "acct_003" in one]
    assert listed(demo, search="%") == [] and listed(demo, search="_0032") == [FLAGGED]
    last = max(row["last_seen"] for row in rows)[:10]
    assert set(listed(demo, since=last)) == {row["account_id"] for row in rows if row["last_seen"] >= last}
    assert listed(demo, decision="flag", capability="coding", search="0032") == [FLAGGED]


def test_csv_has_every_account_and_no_formula(mine: Running) -> None:
    names = ["=1+1", "+1", "-1", "@x", "\t=1", 'a,"b"\r\nc']
    for name in names:
        assert mine.score(account_id=name, prompt="Hello there.").status_code == 200
    rows = list(csv.DictReader(io.StringIO(mine.client.get("/accounts.csv").text, newline="")))
    ids = [row["account_id"] for row in rows]
    assert [one for one in ids if one.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert {"'=1+1", "'-1", 'a,"b"\r\nc'} <= set(ids)
    flagged = next(row for row in rows if row["account_id"] == FLAGGED)
    assert flagged["decision"] == "flag" and float(flagged["log10_max_e"]) == story(mine, FLAGGED)["log10_max_e"]
    flags = list(csv.DictReader(io.StringIO(mine.client.get("/accounts.csv?decision=flag").text)))
    assert len(rows) >= 47 + len(names) and {row["decision"] for row in flags} == {"flag"}


# --- an account -------------------------------------------------------------------------------------------------------


def test_an_account_says_why_and_what_it_belongs_to(demo: Running) -> None:
    page = demo.client.get(f"/account?id={FLAGGED}").text
    said, api = words(page), story(demo, FLAGGED)
    assert "Flagged for probing coding, on a known template: evidence of 10 83.6 where a flag takes 10 3.2 ." in said
    assert all(reason in said for reason in api["reasons"])
    assert all(event in said for event in api["evidence_event_ids"])
    members = demo.client.get(f"/v1/campaigns/{api['campaign_id']}").json()["accounts"]
    assert all(member in said for member in members)


def test_from_the_first_page_to_why_and_what_else_in_three_clicks(demo: Running) -> None:
    first = demo.client.get("/").text
    account = unescape(re.findall(r'href="(/account\?id=[^"]+)"', first)[0])
    page = demo.client.get(account).text
    assert '<h2 id="h-why">Why</h2>' in page and "What else belongs to it" in page
    assert re.findall(r'href="(/campaign\?id=[^"]+)"', page)


def test_the_path_ends_where_the_verdict_is(demo: Running) -> None:
    baselines: Baselines = demo.service.scorer.pipeline.baselines
    with demo.service.store.reading() as connection:
        for name in (FLAGGED, "acct_0028", "acct_0001"):
            known = read_account(connection, name)
            assert known is not None
            units = read_units(connection, known.totals["account_no"])
            whole = replay(merge_units([unit_table(units, [name] * len(units))]), baselines)
            for most in (1, 3, 150):
                path = evidence_path(units, baselines, most)
                assert path.log10_e[-1] * 2.302585092994046 == pytest.approx(whole.log_e[0], abs=1e-9)
                assert len(path.us) == min(most, len({(unit.us, unit.event_id) for unit in units}))
                assert path.us == sorted(path.us)
            assert max(path.log10_e) * 2.302585092994046 == pytest.approx(whole.log_max_e[0], abs=1e-9)


def test_an_account_without_evidence_has_a_page(empty: Running) -> None:
    empty.score(account_id="quiet", prompt="Hello there, how are you?")
    for path in ("/account?id=quiet", "/account/sheet?id=quiet"):
        assert "Too few distinct prompts to say anything." in words(empty.client.get(path).text)


# --- what each review does --------------------------------------------------------------------------------------------


def review(server: Running, state: str, account: str, **fields: str) -> httpx.Response:
    given = {"id": account, "state": state, "reason": "ticket 4711", "until": "", "family": FAMILY} | fields
    return send(server.client, f"/account?id={account}", "/account/review", **given)


def undecided(server: Running) -> set[str]:
    return set(listed(server, decision="flag", undecided=1))


def test_every_review_on_the_page_is_tested_here(mine: Running) -> None:
    assert [one.state for one in EFFECTS] == ["confirmed", "dismissed", "watched", "exempted", "withdrawn"]
    said = words(mine.client.get(f"/account?id={FLAGGED}").text)
    assert all(one.does in said for one in EFFECTS)


@pytest.mark.parametrize(("state", "account"), [("confirmed", "acct_0030"), ("dismissed", "acct_0044")])
def test_confirmed_and_dismissed_leave_the_undecided_and_the_verdict(mine: Running, state: str, account: str) -> None:
    before = story(mine, account)
    assert account in undecided(mine)
    assert review(mine, state, account).headers["location"] == f"/account?id={account}#reviews"
    after = story(mine, account)
    assert account not in undecided(mine) and account in listed(mine, decision="flag")
    assert after["review_state"] == state and after["reviews"][0]["author"] == "loopback"
    changed = {name for name, value in after.items() if before[name] != value}
    assert changed == {"review_state", "reviews"}


def test_a_dismissal_ends_on_its_day(mine: Running) -> None:
    account = "acct_0024"
    review(mine, "dismissed", account, until=LATER)
    assert account not in undecided(mine)
    with mine.service.store.writing() as connection:
        connection.execute(text("UPDATE reviews SET until = 1 WHERE until IS NOT NULL"))
    assert account in undecided(mine)
    assert "ended" in words(mine.client.get(f"/account?id={account}").text)


def test_watched_stays_undecided_and_supersedes(mine: Running) -> None:
    account = "acct_0003"
    review(mine, "confirmed", account)
    review(mine, "watched", account)
    assert account in undecided(mine) and story(mine, account)["review_state"] == "watched"
    assert [one["state"] for one in story(mine, account)["reviews"]] == ["watched", "confirmed"]


def test_exempted_matches_count_for_nothing_then_and_later(mine: Running) -> None:
    account = "acct_0040"
    before, (family, *others) = story(mine, account), _families(mine, account)
    assert review(mine, "exempted", account, until=LATER, family=family).status_code == 303
    after = story(mine, account)
    assert after["log10_max_e"] < before["log10_max_e"] - 3 and after["n_units"] == before["n_units"]
    assert after["reviews"][0]["reason"] == f"{family}: ticket 4711"
    page = words(mine.client.get(f"/account?id={account}").text)
    assert "count for nothing" in page and account not in undecided(mine)
    for other in others:
        assert review(mine, "exempted", account, until=LATER, family=other).status_code == 303
    gone = story(mine, account)
    assert gone["decision"] == "clear" and gone["log10_max_e"] < 1 and gone["basis"] is None
    pipeline = mine.service.scorer.pipeline
    told = [
        prompt for prompt in _telling_prompts(mine) if score(prompt, pipeline)["template"]["family"] != "pw_pair_grader"
    ]
    assert {mine.score(account_id=account, prompt=one).json()["prompt"]["template"]["family"] for one in told} == {
        *(family, *others)
    }
    assert story(mine, account)["log10_max_e"] == gone["log10_max_e"]
    assert story(mine, account)["n_units"] > gone["n_units"]


def _families(server: Running, account: str) -> list[str]:
    page = server.client.get(f"/account?id={account}").text
    return re.findall(r'<option value="([^"]+)">', page.split('id="r-family"')[1].split("</select>")[0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": ""}, "Choose what you conclude."),
        ({"state": "guilty"}, "Choose what you conclude."),
        ({"state": "confirmed", "reason": " "}, "Give the reason"),
        ({"state": "confirmed", "reason": "x" * 2001}, "Give the reason"),
        ({"state": "dismissed", "until": "2020-01-01"}, "The last day is over"),
        ({"state": "dismissed", "until": "soon"}, "The last day is no date"),
        ({"state": "exempted"}, "An exemption ends"),
        ({"state": "exempted", "until": LATER, "family": "unseen"}, "Choose the family"),
    ],
)
def test_a_review_that_lacks_something_is_refused(mine: Running, fields: dict[str, str], said: str) -> None:
    answer = review(mine, **{"account": FLAGGED, **fields})
    assert answer.status_code == 422 and said in words(answer.text)
    assert story(mine, FLAGGED)["reviews"] == []


def test_a_refused_review_leaves_in_the_form_what_was_written(mine: Running) -> None:
    page = review(mine, "dismissed", FLAGGED, reason="their <own> evaluation", until="2020-01-01").text
    assert 'value="dismissed" required aria-describedby="d-dismissed" checked' in page
    assert "their &lt;own&gt; evaluation</textarea>" in page and 'name="until" value="2020-01-01"' in page


def test_no_route_changes_or_deletes_a_review() -> None:
    assert [word for word in ("edit", "delete", "remove") if re.search(word, PAGES.pattern + FORMS.pattern)] == []


# --- try it, and what is hostile --------------------------------------------------------------------------------------


def test_a_prompt_is_tried_and_nothing_is_kept(mine: Running) -> None:
    tables = ("accounts", "units", "events", "traffic", "audit")
    with mine.service.store.reading() as connection:
        before = [connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() for name in tables]
    prompt = _telling_prompts(mine)[0]
    page = send(mine.client, "/try", "/try", prompt=prompt).text
    (marked,) = re.findall(r"(?s)<mark>(.+?)</mark>", page)
    assert unescape(marked) in prompt and "It matches pw_" in words(page)
    assert len(re.findall(r"<li><span class=\"id\">", page)) == 5
    with mine.service.store.reading() as connection:
        assert [connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() for name in tables] == before


def _telling_prompts(server: Running) -> list[str]:
    """What the strongest events of FLAGGED said."""
    told = set(story(server, FLAGGED)["evidence_event_ids"])
    return [event["prompt"] for event in _sample_events() if event["event_id"] in told]


def _sample_events() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_refused(empty: Running, prompt: str) -> None:
    answer = send(empty.client, "/try", "/try", prompt=prompt)
    assert answer.status_code == 422 and 'role="alert"' in answer.text


def test_nothing_hostile_gets_out(mine: Running) -> None:
    name = f"acct{XSS}"
    for prompt in (XSS, *_telling_prompts(mine)):
        assert mine.score(account_id=name, prompt=prompt, event_id=f"{XSS}{len(prompt)}").status_code == 200
    mine.publish()
    review(mine, "watched", name, reason=XSS)
    pages = [mine.client.get(path).text for path in addresses(mine, name)]
    pages += [mine.client.get("/accounts", params={key: XSS}).text for key in ("search", "family", "campaign", "since")]
    pages += [mine.client.get("/accounts", params={key: XSS}).text for key in ("decision", "capability", "after")]
    pages += [mine.client.get(path, params={"id": XSS, "family": XSS}).text for path in ("/account", "/template")]
    pages += [mine.client.get("/login", params={"next": XSS}, follow_redirects=True).text]
    pages += [send(mine.client, "/try", "/try", prompt=XSS + prompt).text]
    pages = [page for page in pages if page.startswith("<!doctype")]
    texts = [
        re.sub(r"(?s)<textarea.*?</textarea>|value=\"[^\"]*\"|<p class=\"prompt card\".*?</p>", "", page)
        for page in pages
    ]
    assert [page for page in pages if "<script>alert" in page or "<img" in page] == []
    assert [re.findall("(?s).{90}\u202e", page) for page in texts if "\u202e" in page] == [] and any(
        "\\u202e" in page for page in texts
    )
