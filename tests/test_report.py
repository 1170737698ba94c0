"""service/report.py: the page's words and numbers against a run made by hand, and hostile names in every field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.errors import InputError, OutputError
from classifier.taxonomy import MOST_CAPABILITIES
from classifier.types import ACCOUNT_SCHEMA, CAMPAIGN_SCHEMA, DISCOVERED_SCHEMA, LABEL_SCHEMA
from service.report import write_report
from service.report_data import read_run
from service.report_plots import activity, plotly_text, script_json
from service.report_types import DayCount, Facts
from service.report_view import build_view, checks, finding, promise
from service.report_words import joined, moment, percent, span, visible
from service.target_colours import DARK, LIGHT, OTHERS

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\u202egnp.exe"
START = datetime(2026, 4, 22, 9, 30, tzinfo=UTC)
TARGETS = ("coding", "agentic_reasoning", "long_horizon_planning", "other")


def account(i: int, **changes: Any) -> dict[str, Any]:
    """Account i of 30: 0-3 flagged for coding, 4-6 for two capabilities, 7-9 to review, 28-29 with too few prompts."""
    decision = "flag" if i < 7 else "review" if i < 10 else "clear" if i < 28 else "insufficient_evidence"
    pair = ["agentic_reasoning", "long_horizon_planning"]
    targets = ["coding"] if i < 4 else pair if i < 7 else ["other"] if i < 10 else []
    log10_e = (24.0 - i) if i < 7 else 2.5 if i < 10 else -0.4
    row: dict[str, Any] = {
        "account_id": f"acct-{i:02d}",
        "n_prompts": 20 + 10 * i,
        "n_units": 18 + 9 * i,
        "first_seen": START,
        "last_seen": START + timedelta(days=9),
        "decision": decision,
        "basis": "signature" if i < 7 else "public" if i < 10 else None,
        "capabilities": targets,
        "log10_e": log10_e - 0.5,
        "log10_max_e": log10_e,
        "log10_threshold": 4.2,
        "template_rate": 0.6 if i < 7 else 0.0,
        "top_template_family": "oss_instruct" if i < 4 else "toolalpaca_docs" if i < 7 else None,
        "techniques": ["code_synthesis"] if i < 4 else ["tool_synthesis"] if i < 7 else [],
        "campaign_id": "campaign-a" if i < 4 else "campaign-b" if i < 7 else None,
        "reasons": ["12 distinct prompts match oss_instruct, made to synthesise code"] if i < 4 else [],
        "evidence_event_ids": [f"e-{i}-{k}" for k in range(3)] if i < 7 else [],
        "flagged_at": START + timedelta(hours=5) if i < 7 else None,
        "review_state": None,
    }
    shares = (0.7, 0.1, 0.05, 0.15) if i < 4 else (0.1, 0.5, 0.3, 0.1) if i < 7 else (0.2, 0.0, 0.0, 0.8)
    for k, target in enumerate(TARGETS):
        row[f"log10_e_{target}"] = log10_e if target in targets else -1.0
        row[f"share_{target}"] = shares[k]
    return row | changes


def campaign(name: str, n_accounts: int, n_prompts: int, targets: list[str]) -> dict[str, Any]:
    return {
        "campaign_id": name,
        "n_accounts": n_accounts,
        "n_prompts": n_prompts,
        "capabilities": targets,
        "techniques": ["code_synthesis"],
        "template_families": ["oss_instruct"],
        "scaffolds": [7],
        "first_seen": START,
        "last_seen": START + timedelta(days=9),
        "flagged_at": START + timedelta(minutes=40),
        "log10_e": 12.0,
    }


def labels(accounts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in accounts:
        for k in range(row["n_prompts"]):
            capability = (row["capabilities"] or ["other"])[0] if k % 5 < 3 else "other"
            yield dict.fromkeys(LABEL_SCHEMA.names) | {
                "event_id": f"{row['account_id']}-{k}",
                "account_id": row["account_id"],
                "timestamp": START + timedelta(days=k % 10, hours=k % 7),
                "capability": capability,
                **{f"p_{c}": 0.5 for c in TARGETS[:3]},
                "p_extraction": 0.1,
                "unit": k,
                "scaffolds": [],
            }


def make_run(folder: Path, accounts: list[dict[str, Any]], **run_changes: Any) -> Path:
    (folder / "labels").mkdir(parents=True)
    write(folder / "accounts.parquet", accounts, ACCOUNT_SCHEMA)
    campaigns = [
        campaign("campaign-a", 4, 140, ["coding"]),
        campaign("campaign-b", 5, 210, ["agentic_reasoning", "long_horizon_planning"]),
    ]
    write(folder / "campaigns.parquet", campaigns, CAMPAIGN_SCHEMA)
    scaffold = {
        "scaffold": 255,
        "n_accounts": 6,
        "n_prompts": 90,
        "p_extraction": 0.71,
        "growth": 3.0,
        "first_seen": START,
        "last_seen": START + timedelta(days=2),
        "example_event_ids": ["e-77"],
    }
    write(folder / "discovered.parquet", [scaffold], DISCOVERED_SCHEMA)
    rows = list(labels(accounts))
    write(folder / "labels" / "part-0.parquet", rows[::2], LABEL_SCHEMA)
    write(folder / "labels" / "part-1.parquet", rows[1::2], LABEL_SCHEMA)
    n = len(rows)
    run = {
        "schema_version": 1,
        "bundle_id": "b-0123456789abcdef",
        "catalogue_id": None,
        "counts": {"read": n + 7, "labelled": n, "rejected": 4, "duplicates": 3},
        "population": 30,
        "alpha": 0.01,
        "fdr_bound": 0.062,
        "fdr_strata": [{"stratum": "people", "n": 30000, "k": 0, "epsilon": 0.0001, "adds": 0.04}],
        "settings": {"workers": 2},
        "seconds": {"label": 1.2},
        "versions": {"probewatch": "0.1.0"},
        "inputs": [{"path": "traffic.jsonl", "digest": "sha256:abc", "records": n + 7}],
    }
    (folder / "run.json").write_text(json.dumps(run | run_changes), encoding="utf-8")
    return folder


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


class Page(HTMLParser):
    """The elements of a page, its visible text, and what its script elements hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._raw: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else self._raw
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._raw = None if tag == self._raw else self._raw

    def handle_data(self, data: str) -> None:
        if self._raw == "script":
            self.scripts[-1] += data
        elif self._raw is None:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run [1] *") / "out", [account(i) for i in range(30)])


@pytest.fixture(scope="module")
def page(run_dir: Path) -> Page:
    return Page(write_report(run_dir).read_text(encoding="utf-8"))


def test_the_finding_and_the_promise_open_the_page(page: Page) -> None:
    text = page.text
    said = "7 of 30 accounts are probing: 4 for coding, 3 for agentic reasoning and 3 for long-horizon planning."
    headings = ("What may be promised", "Campaigns (2)", "Flagged accounts (7)", "Accounts to review (3)", "The run")
    places = [text.index(words) for words in (said, *headings, "What this report does not say")]
    assert places == sorted(places)
    assert "Of accounts whose conduct is within the stated baseline, false flags are expected to be at most 1 %" in text
    assert "at most 6.2 % of the flags in this population are expected to be false" in text
    assert "Of the other accounts, 3 worth a review, 18 clear and 2 with too few prompts to say." in text
    assert places[-1] < text.index("A single prompt is not guilt.")


def test_a_flagged_account_is_shown_with_its_evidence(page: Page) -> None:
    for said in (
        "acct-00",
        "1024.0 threshold 104.2",
        "12 distinct prompts match oss_instruct",
        "e-0-2",
        "after 5 hours",
    ):
        assert said in page.text
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert {"#campaign-1", "#campaign-2", "#flagged-1", "#flagged-7"} <= links
    assert links <= {f"#{attrs['id']}" for _, attrs in page.tags if attrs.get("id")}


def test_events_are_counted_per_day_and_side(run_dir: Path) -> None:
    counts: dict[tuple[int, str, bool], int] = {}
    first = (START - datetime(1970, 1, 1, tzinfo=UTC)).days
    for row in labels([account(i) for i in range(30)]):
        key = ((row["timestamp"] - START).days + first, row["capability"], int(row["account_id"][5:]) < 7)
        counts[key] = counts.get(key, 0) + 1
    assert {(d.day, d.capability, d.flagged): d.n for d in read_run(run_dir).activity} == counts


def test_figures_are_the_accounts_and_events(run_dir: Path) -> None:
    view = build_view(read_run(run_dir))
    bars = view.figures["activity"]["data"]
    assert sum(sum(bar["y"]) for bar in bars) == sum(20 + 10 * i for i in range(30)) == view.totals.prompts
    dots = {trace["name"]: trace for trace in view.figures["evidence"]["data"]}
    assert {name: len(trace["x"]) for name, trace in dots.items()} == {
        "Flag": 7,
        "Review": 3,
        "Clear": 18,
        "Insufficient evidence": 2,
    }
    assert dots["Flag"]["y"] == [16.8] * 7  # all above 4 x 4.2, where the plot clips
    assert view.flagged[0].bar.width == 100 and view.flagged[0].bar.clipped and view.flagged[0].bar.tick == 25
    of_ranked = {row.account.account_id: row.bar for row in view.ranked}
    assert {row.bar.tick for row in view.ranked} == {25}  # one scale, whoever else is in the table
    assert [of_ranked[row.account.account_id] for row in view.review] == [row.bar for row in view.review]


def test_the_page_is_self_contained_and_accessible_in_structure(page: Page, run_dir: Path) -> None:
    for _, attrs in page.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert (attrs.get(name) or "#").startswith(("#", "data:,"))
    policy = next(
        a["content"] or "" for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert (
        policy.startswith("default-src 'none'; script-src 'sha256-")
        and "unsafe-inline" not in policy.split("style-src")[0]
    )
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert next(a for t, a in page.tags if t == "html")["lang"] == "en"
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a.get("aria-label") for t, a in page.tags if "data-figure" in a)
    assert write_report(run_dir).read_bytes() == (run_dir / "report.html").read_bytes()
    assert sorted(p.name for p in run_dir.iterdir() if p.name.startswith(".")) == []


def test_hostile_names_stay_text_in_markup_and_in_scripts(tmp_path: Path, page: Page) -> None:
    rows = [account(i) for i in range(30)]
    for field in ("account_id", "top_template_family", "campaign_id", "review_state"):
        rows[0][field] = HOSTILE
    rows[0] |= {key: [HOSTILE] for key in ("reasons", "evidence_event_ids", "techniques", "capabilities")}
    folder = make_run(tmp_path / "run", rows, settings={HOSTILE: HOSTILE}, bundle_id=HOSTILE, versions={"a": [HOSTILE]})
    hostile = Page(write_report(folder).read_text(encoding="utf-8"))
    assert len(hostile.scripts) == len(page.scripts) == 3
    assert hostile.scripts[1:] == page.scripts[1:]
    assert [a for t, a in hostile.tags if t == "img" or any(name.startswith("on") for name in a)] == []
    assert "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\\u202egnp.exe" in hostile.text
    assert "\u202e" not in hostile.text + hostile.scripts[0]
    shown = [c[0] for trace in json.loads(hostile.scripts[0])["evidence"]["data"] for c in trace["customdata"]]
    assert plotly_text(HOSTILE) in shown and not any("<" in name for name in shown)


@given(st.recursive(st.text() | st.sampled_from([HOSTILE, "<!--", "]]>"]), lambda inner: st.lists(inner, max_size=3)))
def test_script_json_reads_back_and_cannot_leave_its_element(value: object) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


@given(st.text())
def test_plotly_text_has_no_markup(text: str) -> None:
    shown = plotly_text(text)
    assert "<" not in shown and ">" not in shown
    assert shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == visible(text)


def test_optional_facts_may_be_missing(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [account(i) for i in range(30)])
    counts = json.loads((folder / "run.json").read_text())["counts"]
    (folder / "run.json").write_text(
        json.dumps({"counts": counts, "fdr_strata": [3, {}], "settings": None, "alpha": "x"})
    )
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "This run states no bound" in text and "7 of 30 accounts are probing" in text


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [])
    write(folder / "campaigns.parquet", [], CAMPAIGN_SCHEMA)
    write(folder / "discovered.parquet", [], DISCOVERED_SCHEMA)
    for part in (folder / "labels").iterdir():
        part.unlink()
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "This run holds no account." in text and "No account is flagged." in text and "No campaign was found" in text


@pytest.mark.parametrize("name", ["run.json", "accounts.parquet", "campaigns.parquet", "discovered.parquet"])
@pytest.mark.parametrize("damage", ["missing", "broken", "other"])
def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path, name: str, damage: str) -> None:
    folder = make_run(tmp_path / "run", [account(0)])
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "broken":
        (folder / name).write_bytes(b"PAR1 nothing {")
    elif name == "run.json":
        (folder / name).write_text('{"counts": {"read": 3}}')
    else:
        pq.write_table(pa.table({"x": [1]}), folder / name)
    with pytest.raises(InputError) as caught:
        write_report(folder)
    assert re.fullmatch(r"[^\n]+\.", str(caught.value)) and not (folder / "report.html").exists()


def test_no_folder_and_no_room_are_told_apart(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        write_report(tmp_path / "nowhere")
    folder = make_run(tmp_path / "run", [account(0)])
    (folder / "report.html").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(folder)
    assert [p for p in folder.iterdir() if p.suffix == ".tmp"] == []


def test_the_page_may_be_written_elsewhere(run_dir: Path, tmp_path: Path) -> None:
    assert write_report(run_dir, tmp_path / "page.html") == tmp_path / "page.html"
    assert (tmp_path / "page.html").read_bytes() == write_report(run_dir).read_bytes()
    for out in (tmp_path, tmp_path / "no" / "page.html"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_report(run_dir, out)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_long_runs_show_the_first_and_say_how_many_more(tmp_path: Path) -> None:
    rows = [account(20, account_id=f"a{i:04d}", n_prompts=0) for i in range(620)]
    text = Page(write_report(make_run(tmp_path / "run", rows)).read_text(encoding="utf-8")).text
    assert "The first 500 are shown; 120 more are in accounts.parquet." in text
    assert "a0499" in text and "a0500" not in text
    assert "None of 620 accounts shows evidence enough to be flagged." in text


def test_counts_that_do_not_reconcile_are_said(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert [check.holds for check in checks(run.facts, run.totals)] == [True, True, True]
    wrong = Facts(**(run.facts.__dict__ | {"duplicates": 4}))
    assert [check.holds for check in checks(wrong, run.totals)] == [False, True, True]


def test_a_bound_of_one_promises_nothing_for_the_population(run_dir: Path) -> None:
    run = read_run(run_dir)
    said = promise(Facts(**(run.facts.__dict__ | {"fdr_bound": 1.0})), run.totals)
    assert (
        said[0].startswith("Of accounts whose conduct is within the stated baseline")
        and "nothing can be promised" in said[1]
    )
    assert finding(run.totals).startswith("7 of 30 accounts are probing: ")


def test_activity_has_no_gaps_and_long_runs_become_weeks() -> None:
    short = activity([DayCount(0, "coding", True, 2), DayCount(3, "new_one", False, 5)])
    assert short.starts == ["1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04"]
    assert short.counts[0]["coding"] == [2, 0, 0, 0] and short.counts[1]["other"] == [0, 0, 0, 5]
    long = activity([DayCount(day, "coding", False, 1) for day in range(210)])
    assert long.step_days == 7 and long.counts[1]["coding"] == [7] * 30 and long.totals == (0, 210)


def test_percent() -> None:
    shares = (0.0, 0.0001, 0.0125, 0.5)
    assert [percent(s).replace("\u00a0", " ") for s in shares] == ["0 %", "0.01 %", "1.2 %", "50 %"]
    bounds = (0.07, 0.0621, 0.1705, 1.0)
    assert [percent(s, up=True).replace("\u00a0", " ") for s in bounds] == ["7 %", "6.3 %", "18 %", "100 %"]


def test_words() -> None:
    assert [joined(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert moment(START) == "22\u00a0Apr\u00a02026, 09:30"
    assert [span(timedelta(minutes=m)) for m in (1, 40, 180, 14400)] == ["1 minute", "40 minutes", "3 hours", "10 days"]
    assert visible("a\x00b\u202ec" + "x" * 200) == "a\\u0000b\\u202ec" + "x" * 154 + "…"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_meet_wcag_aa_in_light_and_dark() -> None:
    css = files("service").joinpath("templates", "report.css").read_text(encoding="utf-8")
    blocks = (css[: css.index("@media")], css[css.index("@media") : css.index("* {")])
    for block, marks, other in zip(blocks, (LIGHT, DARK), OTHERS, strict=True):
        assert len(set(marks)) == MOST_CAPABILITIES
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) | {m: m for m in (*marks, other)}
        for name, least in [(n, 4.5) for n in ("text", "muted", "link", "flag", "clear")] + [
            (mark, 3.0) for mark in (*marks, other)
        ]:
            for ground in ("page", "raised"):
                light, dark = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)
