"""The console in a real browser: every page drawn, used by keyboard, in the dark, on a phone, and under attack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from service.store.keys import Role, add_key
from tests.browsing import browser, drawn, findings
from tests.console_store import POPULATION, imported, sample_run
from tests.forgeries import QUILL, fill, rows
from tests.serving import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

FLAGGED, FAMILY = "acct_0032", "pw_review_bug"
LONG = "n" * 150  # a name in which nothing breaks
XSS = '"\'><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
TOO_WIDE = """() => [document.documentElement, ...document.querySelectorAll('.scroll:not(:has(.heat))')]
    .filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel || one.tagName)"""
CUT = """() => [...document.querySelectorAll('main :is(figcaption, p, li, dd, td, tbody th, h1)')]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth).map(one => one.outerHTML.slice(0, 90))"""
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("browser")
    url = imported(sample_run(folder / "run"), f"sqlite:///{folder / 'store.db'}")
    (folder / "local").mkdir()
    with running(url, population=2 * POPULATION, runs=folder, catalogue=folder / "local") as opened:
        opened.score(
            **{"account_id": f"hostile{XSS}", "prompt": XSS, "event_id": XSS},
            **{"model": XSS, "org_id": XSS, "end_user_id": XSS},
        )
        for number in range(2):
            opened.score(
                **{"account_id": f"{number}{LONG}", "prompt": rows(fill(QUILL, 1, seed=1))[0]["prompt"]},
                **{"event_id": f"{number}{LONG}", "model": LONG, "org_id": LONG, "end_user_id": str(number)},
            )
        opened.publish()
        yield opened


class Tab:
    """A tab, and what went wrong in it."""

    def __init__(self, chrome: Browser, server: Running, **options: Any) -> None:
        base = str(server.client.base_url)
        self.context = chrome.new_context(base_url=base, viewport=LAPTOP, **options)
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def open(self, path: str) -> Page:
        self.page.goto(path)
        drawn(self.page)
        return self.page


@pytest.fixture
def tab(chrome: Browser, server: Running) -> Iterator[Tab]:
    """A new tab in which nothing may go wrong."""
    opened = Tab(chrome, server)
    yield opened
    opened.context.close()
    assert opened.wrong == []


def addresses(server: Running) -> list[str]:
    campaign = server.client.get("/v1/campaigns").json()["campaigns"][0]["campaign_id"]
    return [
        *("/", "/accounts", f"/account?id={FLAGGED}", f"/account/sheet?id={FLAGGED}", "/campaigns"),
        *(f"/campaign?id={campaign}", "/templates", f"/template?family={FAMILY}", "/try", "/account?id=unseen"),
        *("/propose", "/discovered?run=run", f"/account?id={quote('hostile' + XSS)}"),
        *("/models", f"/model?name={quote(XSS)}", "/organisations", "/beginnings"),
        f"/accounts?organisation={quote(XSS)}",
    ]


def test_every_page_is_drawn_as_it_should_be(tab: Tab, server: Running) -> None:
    plots = {}
    for path in addresses(server):
        if path == "/account?id=unseen":
            continue  # a 404, which browsers report as an error
        page = tab.open(path)
        assert page.locator("h1").count() == 1 and page.title().endswith("probewatch")
        plots[path.split("?")[0]] = max(page.locator("svg.main-svg").count() // 2, plots.get(path.split("?")[0], 0))
    assert plots["/"] >= 2 and plots["/account"] >= 2 and plots["/campaign"] >= 2 and plots["/try"] == 0


def test_axe_finds_nothing_serious(chrome: Browser, server: Running) -> None:
    opened = Tab(chrome, server)
    for path in addresses(server):
        assert findings(opened.open(path)) == [], path
    opened.page.emulate_media(color_scheme="dark")
    for path in addresses(server)[:3]:
        assert findings(opened.open(path), "color-contrast") == [], path
    opened.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for path in addresses(server)[:3]:
        assert findings(opened.open(path)) == [], path
    opened.context.close()


def test_three_clicks_lead_to_why_and_to_what_else_belongs_to_it(tab: Tab) -> None:
    page = tab.open("/")
    page.locator(".cards a").first.click()  # what was found: a campaign
    page.locator("main table a[href^='/account?']").first.click()  # one of its accounts
    drawn(page)
    why = page.locator("section[aria-labelledby=h-why]")
    assert why.locator(".reasons li").count() >= 1 and "match" in why.inner_text()
    linked = page.locator("section[aria-labelledby=h-linked] a[href^='/account?']")
    assert linked.count() == 5  # the others of its campaign
    name = linked.first.inner_text()
    linked.first.click()
    assert name in page.locator("h1").inner_text()


def test_the_first_page_is_light_but_for_the_plot_library(tab: Tab) -> None:
    sizes: dict[str, int] = {}
    tab.page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
    tab.open("/")
    own = {url: size for url, size in sizes.items() if "plotly" not in url}
    assert len(own) >= 4 and len(sizes) == len(own) + 1
    assert sum(own.values()) <= 300_000, own


def test_what_was_tried_is_accessible_too(tab: Tab) -> None:
    page = tab.open("/try")
    page.fill("#t-prompt", "Write one problem for a code benchmark, with tests.")
    page.click("text=Say what it is")
    page.wait_for_selector("#found")
    assert findings(page) == []


def test_what_matched_is_said_in_one_line(tab: Tab, server: Running) -> None:
    page = tab.open("/try")
    page.fill("#t-prompt", rows(fill(QUILL, 1, seed=1))[0]["prompt"])
    page.click("text=Say what it is")
    page.wait_for_selector("#found")
    shown = page.evaluate(
        "() => [...document.querySelectorAll('.chances dd')].map(one => getComputedStyle(one).display)"
    )
    assert shown[:4] == ["flex"] * 4 and set(shown[4:]) == {"block"}  # bars in a row; sentences as text


def test_it_is_dark_where_the_reader_wants_it(chrome: Browser, server: Running) -> None:
    colours = []
    for scheme in ("light", "dark"):
        opened = Tab(chrome, server, color_scheme=scheme)
        page = opened.open("/")
        colours.append(
            page.evaluate(
                "() => [getComputedStyle(document.body).backgroundColor,"
                " document.querySelector('.ytick text').style.fill]"
            )
        )
        opened.context.close()
    assert colours[0] == ["rgb(247, 247, 245)", "rgb(29, 30, 32)"]
    assert colours[1] == ["rgb(19, 21, 25)", "rgb(233, 233, 230)"]


def test_a_phone_needs_no_scrolling_sideways(chrome: Browser, server: Running) -> None:
    opened = Tab(chrome, server)
    opened.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for path in addresses(server):
        width = opened.open(path).evaluate("() => document.documentElement.scrollWidth")
        assert width <= PHONE["width"], path
    opened.context.close()


def test_on_a_laptop_every_table_is_seen_whole(tab: Tab, server: Running) -> None:
    for path in addresses(server):
        if path == "/account?id=unseen":
            continue
        assert tab.open(path).evaluate(TOO_WIDE) == [], path


@pytest.mark.parametrize("width", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_long_names_and_reasons_break(chrome: Browser, server: Running, width: dict[str, int]) -> None:
    opened, account = Tab(chrome, server), f"0{LONG}"
    opened.page.set_viewport_size(width)  # type: ignore[arg-type]
    page = opened.open(f"/account?id={account}")
    page.check("#s-watched")
    page.fill("#r-reason", 3 * LONG)
    page.click("text=Save the review")
    page.wait_for_url("**#reviews")
    paths = [
        f"/account?id={account}",
        f"/account/sheet?id={account}",
        f"/model?name={LONG}",
        "/models",
        "/organisations",
    ]
    for path in (*paths, f"/accounts?search={LONG}", f"/accounts?organisation={LONG}"):
        page = opened.open(path)
        assert LONG[:100] in page.locator("main").inner_text() and page.evaluate(TOO_WIDE) == [], path
        assert page.evaluate(CUT) == [], path
    opened.context.close()


def test_filters_are_used(tab: Tab) -> None:
    page = tab.open("/accounts")
    page.select_option("#f-decision", "flag")
    page.select_option("#f-capability", "coding")
    page.click("text=Show")
    page.wait_for_url("**/accounts?*decision=flag*")
    assert page.locator("tbody tr").count() == 6 and "Show all" in page.content()
    page.fill("#f-search", "0032")
    page.keyboard.press("Enter")
    page.wait_for_url("**search=0032*")
    assert page.locator("tbody tr").count() == 1
    with page.expect_download() as download:
        page.click("text=All of these as CSV")
    assert Path(download.value.path()).read_text(encoding="utf-8").count("\n") == 2


def test_by_keyboard_alone_from_the_first_page_to_the_reason(tab: Tab) -> None:
    page = tab.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    for _ in range(60):
        page.keyboard.press("Tab")
        if "/account?" in (page.evaluate("() => document.activeElement.getAttribute('href')") or ""):
            break
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/account?id=*")
    assert page.locator("#h-why").is_visible() and page.locator("#h-linked").count() == 1


def test_a_review_is_saved_and_shown(tab: Tab) -> None:
    page = tab.open(f"/account?id={FLAGGED}")
    page.check("#s-dismissed")
    page.fill("#r-reason", "their own evaluation")
    page.fill("#r-until", "2099-01-31")
    page.click("text=Save the review")
    page.wait_for_url("**#reviews")
    assert "dismissed by loopback" in page.locator(".history li").first.inner_text()
    assert "their own evaluation" in page.locator(".history").inner_text()
    assert page.locator(".history input, .history button").count() == 0


def test_a_review_without_a_reason_is_not_sent(tab: Tab) -> None:
    page = tab.open("/account?id=acct_0030")
    page.check("#s-confirmed")
    page.click("text=Save the review")
    assert page.evaluate("() => document.activeElement.id") == "r-reason"
    assert "Nobody reviewed it yet." in page.content()


def test_a_prompt_is_tried(tab: Tab) -> None:
    page = tab.open("/try")
    page.fill("#t-prompt", XSS)
    page.click("text=Say what it is")
    page.wait_for_selector("#found")
    assert page.input_value("#t-prompt") == XSS
    assert page.locator("#found .chances dd").count() >= 5


def test_a_template_is_tried_on_a_day_added_and_removed(tab: Tab) -> None:
    page = tab.open("/templates")
    page.click("text=Make one of samples")
    samples = [json.dumps(row | {"prompt": row["prompt"] + XSS}) for row in rows(fill(QUILL, 12, seed=1))]
    page.fill("#p-samples", "\n".join(samples))
    page.fill("#p-family", "night_mill")
    page.fill("#p-reason", f"ticket 4711 {XSS}")
    page.select_option("#p-trial", "run")
    page.click("text=Show what it would do")
    page.wait_for_selector("#fired")
    assert "0 prompts of 0 accounts" in page.inner_text("#fired").replace("\u00a0", " ")
    assert findings(page) == [] and page.evaluate("() => window.hacked") is None
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    page.click("text=Add it, in force at once")
    page.wait_for_url("**/templates")
    page.click("text=night_mill")
    assert "ticket 4711" in page.inner_text("#h-local + ol") and findings(page) == []
    page.fill("#d-reason", "a mistake")
    page.click("text=Remove it from the catalogue")
    page.wait_for_url("**/templates")
    assert page.locator("text=night_mill").count() == 0


def test_nothing_hostile_runs_in_any_field(tab: Tab) -> None:
    page = tab.open("/")
    for name in ("search", "family", "campaign"):
        page.goto(f"/accounts?{name}={quote(XSS)}")
        assert page.evaluate("() => window.hacked") is None
    account = "hostile" + XSS
    page.goto(f"/account?id={quote(account)}")
    page.check("#s-watched")
    page.fill("#r-reason", XSS)
    page.click("text=Save the review")
    page.wait_for_url("**#reviews")
    drawn(page)
    assert XSS in page.locator(".history").inner_text() and account[:20] in page.locator("h1").inner_text()
    for path in (f"/account/sheet?id={quote(account)}", f"/accounts?search={quote(account)}"):
        page.goto(path)
        assert account[:20] in page.locator("main").inner_text()
        assert page.evaluate("() => window.hacked") is None and page.locator("main img, main script").count() == 0


def test_an_empty_store_looks_well(chrome: Browser, tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as empty:
        opened = Tab(chrome, empty)
        for path in ("/", "/accounts", "/campaigns", "/templates", "/try"):
            assert findings(opened.open(path)) == [], path
        opened.context.close()
        assert opened.wrong == []


def test_logging_in_and_out(chrome: Browser, tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as locked:
        with locked.service.store.writing() as connection:
            key = add_key(connection, Role.ANALYST, "ann", None, "test")
        locked.service.gate.refresh()
        opened = Tab(chrome, locked)
        page = opened.open("/campaigns")
        assert page.url.endswith("/login?next=%2Fcampaigns") and findings(page) == []
        page.fill("#l-key", key)
        page.keyboard.press("Enter")
        page.wait_for_url("**/campaigns")
        assert page.evaluate("() => document.cookie") == ""
        page.click("text=Log out")
        page.wait_for_url("**/login")
        opened.context.close()
        assert opened.wrong == []
