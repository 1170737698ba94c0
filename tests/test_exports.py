"""service/exports/ and `probewatch export`: valid STIX, OCSF and CSV of a real run, and nothing of anybody in them."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import stat
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import stix2
import stix2validator
from ocsf.v1_7_0.events import DetectionFinding

from classifier.taxonomy import read_taxonomy
from service.exports.carried import EXTENSION_ID
from service.exports.ocsf import ocsf_lines
from service.exports.pseudonyms import Pseudonyms
from service.exports.tables import accounts_csv
from service.report_data import read_selected
from service.report_types import Account
from tests.command import Ran
from tests.ocsf_schema import problems
from tests.sharing import NOTE, installation, run, traffic

ROOT = Path(__file__).resolve().parents[1]
KEY = "5a" * 32
NAMES = Pseudonyms(bytes.fromhex(KEY))
FILES = ("export.stix.json", "export.ocsf.jsonl", "export.csv", "export-campaigns.csv")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation that has exported its run in every format."""
    folder = installation(tmp_path_factory.mktemp("here"))
    (folder / "key").write_text(KEY + "\n")
    for format, *more in (("stix", "--catalogue", folder / "local"), ("ocsf",), ("csv",)):
        out = folder / f"export.{ {'stix': 'stix.json', 'ocsf': 'ocsf.jsonl', 'csv': 'csv'}[str(format)] }"
        run("export", folder / "run", "--format", format, "--review", "--key-file", folder / "key", "--out", out, *more)
    return folder


@pytest.fixture(scope="module")
def objects(here: Path) -> list[dict[str, Any]]:
    return list(json.loads((here / FILES[0]).read_bytes())["objects"])


def of_type(objects: list[dict[str, Any]], type: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["type"] == type]


def ours(item: dict[str, Any]) -> dict[str, Any]:
    return dict(item["extensions"][EXTENSION_ID])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


# --- what must not leave ----------------------------------------------------------------------------------------------


def runs(text: str) -> set[tuple[str, ...]]:
    """Three words in a row."""
    words = re.findall(r"\w*[a-z]\w*", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def leaks(content: str, rows: list[dict[str, Any]]) -> list[object]:
    """Account ids, event ids and runs of three words of prompts that stand in a text, but for what our own sentences
    say as well."""
    ids = {str(row[name]) for row in rows for name in ("account_id", "event_id")}
    said = {
        three for row in rows for name in ("system", "prompt", "messages") for three in runs(str(row.get(name, "")))
    }
    ours = [ROOT / "service" / "report_words.py", *(ROOT / "service" / "exports").glob("*.py")]
    words = [*(path.read_text(encoding="utf-8") for path in ours), *(one.title for one in read_taxonomy())]
    own = {three for text in words for three in runs(text)}
    return [*(id for id in sorted(ids) if id in content), *sorted(said & runs(content) - own)]


def test_no_prompt_text_and_no_id_leaves(here: Path, objects: list[dict[str, Any]]) -> None:
    rows = traffic()
    carried = [
        base64.b64decode(ours(one)["exchange"]) for one in of_type(objects, "indicator") if "exchange" in ours(one)
    ]
    assert len(carried) == 1
    for content in [*((here / name).read_bytes() for name in FILES), *carried]:
        text = content.decode("utf-8", "replace")
        assert leaks(text, rows) == []
        assert NOTE not in text and str(here) not in text


def test_the_search_for_leaks_finds_them(here: Path) -> None:
    rows = traffic()
    run("export", here / "run", "--format", "csv", "--raw-ids", "--out", here / "raw.csv", "--key-file", here / "key")
    assert len(leaks((here / "raw.csv").read_text(), rows)) == 12
    assert len(leaks(f"... {rows[-1]['prompt'][:60]} ...", rows)) > 3


def test_without_the_key_names_tell_nothing_and_with_it_they_are_the_same() -> None:
    other = Pseudonyms(bytes(32))
    assert NAMES.account("a") == "40fe099ab755fdede8ff1491cb5c63c93a974bff01aaf6313280e07bc1c60219"  # of "account\\0a"
    assert len({NAMES.account("a"), NAMES.account("b"), NAMES.event("a"), NAMES.exporter("a"), other.account("a")}) == 5


# --- STIX -------------------------------------------------------------------------------------------------------------


def test_stix_is_valid_by_the_validator_and_the_parser_of_its_makers(here: Path) -> None:
    text = (here / FILES[0]).read_text(encoding="utf-8")
    found = stix2validator.validate_string(text, stix2validator.ValidationOptions(version="2.1"))
    assert found.is_valid and found.errors == []
    # UUIDv5 so that bytes are the same, pattern_type in an open vocabulary, and a web page that has no hash.
    remarks = {re.search(r"\{(\d+)\}", str(warning))[1] for warning in found.warnings}  # type: ignore[index]
    assert remarks == {"103", "245", "302"}
    assert len(stix2.parse(text, allow_custom=False).objects) == len(json.loads(text)["objects"])


def test_stix_tells_of_campaigns_signatures_accounts_and_techniques(here: Path, objects: list[dict[str, Any]]) -> None:
    assert Counter(item["type"] for item in objects) == {
        **{"identity": 2, "extension-definition": 1, "attack-pattern": 3, "marking-definition": 1, "campaign": 2},
        **{"indicator": 11, "user-account": 24, "observed-data": 3, "sighting": 13, "relationship": 27},
    }
    ids = {item["id"] for item in objects}
    referred = {
        ref
        for item in objects
        for name, value in item.items()
        if name.endswith(("_ref", "_refs"))
        for ref in (value if isinstance(value, list) else [value])
    }
    assert len(ids) == len(objects) and referred <= ids
    marked = {item["type"] for item in objects if "object_marking_refs" in item}
    assert {"campaign", "user-account", "observed-data", "sighting"} <= marked
    assert [item["name"] for item in of_type(objects, "marking-definition")] == ["TLP:AMBER"]


def test_stix_cites_atlas_and_says_what_is_not_known(objects: list[dict[str, Any]]) -> None:
    names = {one["external_references"][0]["external_id"]: one["name"] for one in of_type(objects, "attack-pattern")}
    assert names == {
        "AML.T0024.002": "Extract AI Model",
        "AML.T0040": "AI Model Inference API Access",
        "AML.T0008.005": "AI Service Proxies",
    }
    proxies = next(one["id"] for one in of_type(objects, "attack-pattern") if one["name"] == "AI Service Proxies")
    verbs = [(one["relationship_type"], one["target_ref"] == proxies) for one in of_type(objects, "relationship")]
    assert Counter(verbs) == {("uses", False): 4, ("related-to", True): 2, ("indicates", False): 21}


def test_campaigns_are_those_of_the_run(here: Path, objects: list[dict[str, Any]]) -> None:
    expected = {row["campaign_id"]: row for row in rows_of(here / "run" / "campaigns.parquet")}
    found = {one["name"]: one for one in of_type(objects, "campaign")}
    assert found.keys() == expected.keys() and len(found) == 2
    for name, row in expected.items():
        assert datetime.fromisoformat(found[name]["first_seen"]) == row["first_seen"]
        assert datetime.fromisoformat(found[name]["last_seen"]) == row["last_seen"]
        assert ours(found[name])["n_prompts"] == row["n_prompts"]
        assert ours(found[name])["families"] == row["template_families"]
    assert "to train another on: agentic reasoning and long-horizon planning." in {
        re.sub("^.*(?=to train)", "", one["objective"]) for one in found.values()
    }


def test_signatures_are_sighted_as_often_as_labels_say(here: Path, objects: list[dict[str, Any]]) -> None:
    judged = {
        row["account_id"]: row["campaign_id"]
        for row in rows_of(here / "run" / "accounts.parquet")
        if row["decision"] in ("flag", "review")
    }
    (labels,) = (here / "run" / "labels").iterdir()
    expected = Counter(
        (row["template_id"], judged[row["account_id"]])
        for row in rows_of(labels)
        if row["template_id"] is not None and row["account_id"] in judged
    )
    signature = {one["id"]: ours(one)["signature_id"] for one in of_type(objects, "indicator")}
    found = {
        (signature[one["sighting_of_ref"]], ours(one).get("campaign_id")): one["count"]
        for one in of_type(objects, "sighting")
        if one["sighting_of_ref"] in signature
    }
    assert found == dict(expected) and found["night_mill/0", None] == 84


def test_accounts_are_pseudonyms_in_the_campaigns_they_are_of(here: Path, objects: list[dict[str, Any]]) -> None:
    name = {one["id"]: one["user_id"] for one in of_type(objects, "user-account")}
    observed = {one["id"]: {name[ref] for ref in one["object_refs"]} for one in of_type(objects, "observed-data")}
    campaign = {one["id"]: one["name"] for one in of_type(objects, "campaign")}
    found = {
        campaign[one["sighting_of_ref"]]: observed.pop(one["observed_data_refs"][0])
        for one in of_type(objects, "sighting")
        if one["sighting_of_ref"] in campaign
    }
    expected: dict[str | None, set[str]] = {}
    for row in rows_of(here / "run" / "accounts.parquet"):
        if row["decision"] in ("flag", "review"):
            expected.setdefault(row["campaign_id"], set()).add(NAMES.account(row["account_id"]))
    assert expected.pop(None) == observed.popitem()[1]
    assert found == expected and all(len(members) == 6 for members in found.values())


def test_the_same_run_gives_the_same_bytes_and_another_exporter_shares_what_ships(
    here: Path, objects: list[dict[str, Any]], tmp_path: Path
) -> None:
    stix = ("export", here / "run", "--format", "stix", "--review", "--catalogue", here / "local")
    for out, key in (("again", here / "key"), ("theirs", tmp_path / "key")):
        run(*stix, "--out", tmp_path / out, "--key-file", key, "--make-key")
    assert (tmp_path / "again").read_bytes() == (here / FILES[0]).read_bytes()
    theirs = json.loads((tmp_path / "theirs").read_bytes())["objects"]
    shared = [one for one in theirs if one in objects]
    assert Counter(one["type"] for one in shared) == {
        **{"identity": 1, "extension-definition": 1, "attack-pattern": 3, "marking-definition": 1},
        **{"indicator": 10, "relationship": 10},
    }
    apart = {one["id"] for one in theirs} & {one["id"] for one in objects}
    assert apart == {one["id"] for one in shared}


def test_a_run_that_grew_gives_later_versions_of_the_same_objects(
    here: Path, objects: list[dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(here / "run", tmp_path / "run")
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"account_id": "late", "prompt": "Good night.", "timestamp": "2026-10-01T00:00:00Z"}))
    run("label", more, "--out", tmp_path / "run", "--catalogue", here / "local", "--quiet")
    options = ("--review", "--catalogue", here / "local", "--key-file", here / "key", "--out", tmp_path / "grown")
    run("export", tmp_path / "run", "--format", "stix", *options)
    before = {one["id"]: one for one in objects if one["type"] in ("campaign", "sighting", "observed-data")}
    after = {one["id"]: one for one in json.loads((tmp_path / "grown").read_bytes())["objects"]}
    assert before.keys() <= after.keys()
    assert {after[id]["modified"] for id in before} == {"2026-10-01T00:00:00.000Z"}
    assert all(after[id]["created"] == one["created"] < one["modified"] for id, one in before.items())


# --- OCSF -------------------------------------------------------------------------------------------------------------


def findings(here: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (here / FILES[1]).read_text(encoding="utf-8").splitlines()]


def test_ocsf_is_valid_by_the_published_schema_and_models_made_from_it(here: Path) -> None:
    for document in findings(here):
        assert problems(document) == []
        DetectionFinding.model_validate(document)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"finding_info": {"title": "no uid"}}, "finding.finding_info.uid is required"),
        ({"severity_id": 7}, "finding.severity_id is 7, none of its values"),
        ({"time": "2026-09-01"}, "finding.time is no timestamp_t"),
        ({"account": "a"}, "finding.account is no attribute"),
        ({"evidences": [{"name": "nothing"}]}, "finding.evidences[0] has none of"),
    ],
)
def test_the_walk_over_the_schema_finds_what_breaks_it(here: Path, change: dict[str, Any], said: str) -> None:
    (found,) = problems(findings(here)[0] | change)
    assert found.startswith(said)


def test_ocsf_says_of_each_account_what_the_run_says(here: Path) -> None:
    rows = {NAMES.account(row["account_id"]): row for row in rows_of(here / "run" / "accounts.parquet")}
    found = findings(here)
    assert Counter((one["severity"], one["is_alert"]) for one in found) == {("High", True): 12, ("Low", False): 12}
    for one in found:
        row = rows[one["finding_info"]["uid"]]
        assert (one["class_uid"], one["category_uid"], one["type_uid"]) == (2004, 2, 200401)
        assert (one["unmapped"]["decision"], one["count"]) == (row["decision"], row["n_prompts"])
        assert one["unmapped"]["log10_max_e"] == row["log10_max_e"]
        assert one["start_time"] == int(row["first_seen"].timestamp() * 1000)
        uids = one["evidences"][0]["data"]["event_uids"]
        assert uids == [NAMES.event(id) for id in row["evidence_event_ids"]] and len(uids) > 0
        attacks = [(kind, cited["uid"]) for attack in one["finding_info"]["attacks"] for kind, cited in attack.items()]
        assert attacks == [("sub_technique", "AML.T0024.002"), ("technique", "AML.T0040")]
    assert "confidence" not in json.dumps(found)


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_has_a_row_an_account_and_a_row_a_campaign(here: Path) -> None:
    with (here / FILES[2]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["decision"] for row in rows) == {"flag": 12, "review": 12} and "account_id" not in rows[0]
    expected = {NAMES.account(row["account_id"]): row for row in rows_of(here / "run" / "accounts.parquet")}
    for row in rows:
        assert float(row["log10_e_coding"]) == expected[row["account"]]["log10_e_coding"]
        assert row["capabilities"] == "; ".join(expected[row["account"]]["capabilities"])
    with (here / FILES[3]).open(encoding="utf-8", newline="") as file:
        assert [row["n_accounts"] for row in csv.DictReader(file)] == ["6", "6"]


@pytest.mark.parametrize(
    "id", ["=1+1", "+1", "-1", "@sum(a)", "\t=1", " =1", "\r\n=cmd|' /C calc'!A0", "＝1", "\x00=1"]
)
def test_an_id_is_never_a_formula(id: str) -> None:
    account = Account(**sample_account(account_id=id))
    text = accounts_csv([account], NAMES, raw_ids=True).decode()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["account_id"] == f"'{id}" and row["log10_e_coding"] == "-0.5"


def sample_account(**changes: Any) -> dict[str, Any]:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    lists = {"log10_e_targets": [-0.5, -0.5, -0.5, -0.5], "shares": [1.0, 0.0, 0.0, 0.0]}
    row = dict.fromkeys(("basis", "top_template_family", "campaign_id", "flagged_at", "review_state"))
    numbers = dict.fromkeys(("log10_e", "log10_max_e", "log10_threshold"), 9.0) | {"template_rate": 0.5}
    some = {name: [] for name in ("techniques", "reasons", "evidence_event_ids")}
    times = {"first_seen": start, "last_seen": start + timedelta(days=1)}
    plain = {"decision": "flag", "n_prompts": 9, "n_units": 9, "capabilities": ["coding"]}
    return row | numbers | some | times | plain | lists | changes


def test_hostile_ids_stay_out_of_every_line() -> None:
    hostile = "\ud800=</script>\u202e\n"
    text = accounts_csv([Account(**sample_account(account_id=hostile))], NAMES, raw_ids=False).decode()
    assert "script" not in text and len(text.splitlines()) == 2


# --- the command ------------------------------------------------------------------------------------------------------


def test_flagged_accounts_alone_unless_asked_and_one_campaign_if_asked(here: Path, tmp_path: Path) -> None:
    options = ("--format", "ocsf", "--out", tmp_path / "x", "--key-file", here / "key")
    run("export", here / "run", *options)
    assert len((tmp_path / "x").read_bytes().splitlines()) == 12
    (name, other) = sorted(row["campaign_id"] for row in rows_of(here / "run" / "campaigns.parquet"))
    run("export", here / "run", *options, "--review", "--campaign", name)
    found = [json.loads(line)["unmapped"]["campaign_id"] for line in (tmp_path / "x").read_bytes().splitlines()]
    assert found == [name] * 6
    stix = ("--format", "stix", "--catalogue", here / "local", "--campaign", other)
    run("export", here / "run", *options[2:], *stix, "--tlp", "clear", "--name", "Example Lab")
    text = (tmp_path / "x").read_text()
    assert other in text and name not in text and "TLP:WHITE" in text and "Example Lab" in text


def test_a_bare_command_writes_into_the_run_under_a_key_of_its_own(
    capsys: pytest.CaptureFixture[str], here: Path, tmp_path: Path
) -> None:
    shutil.copytree(here / "known", tmp_path / "run")
    for format, name in (("stix", FILES[0]), ("ocsf", FILES[1]), ("csv", FILES[2])):
        ran = Ran(capsys, "export", tmp_path / "run", "--format", format)
        key = tmp_path / "run" / "export.key"
        said = f"{tmp_path / 'run' / name}: 12 accounts by pseudonym (key: {key}), 2 campaigns.\n"
        assert (ran.code, ran.out, ran.err) == (0, said, "")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and re.fullmatch("[0-9a-f]{64}\n", key.read_text())
    assert (tmp_path / "run" / FILES[3]).is_file()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "Missing option '--format'"),
        (("--format", "pdf"), 2, "'pdf' is not one of"),
        (("--format", "stix"), 2, "was labelled with catalogue"),
        (("--format", "stix", "--raw-ids"), 2, "--raw-ids is for --format csv alone"),
        (("--format", "ocsf", "--tlp", "red"), 2, "--tlp is for --format stix alone"),
        (("--format", "csv", "--campaign", "campaign-0"), 2, "holds no campaign campaign-0; 2 are in its"),
        (("--format", "csv", "--key-file", "nokey"), 3, "nokey: the key cannot be read"),
        (("--format", "csv", "--key-file", "traffic.jsonl"), 3, "traffic.jsonl: holds no key: expected 64 of 0-9"),
        (("--format", "csv", "--key-file", "key", "--out", "no/where.csv"), 5, "cannot be written"),
        (("--format", "csv", "--key-file", "no/key", "--make-key"), 5, "no/key: cannot be written"),
        (("--format", "stix", "--catalogue", "known"), 4, "catalogue known:"),
        (("--format", "stix", "--catalogue", "local", "--bundle", "known"), 4, "known"),
        (("--format", "stix", "--catalogue", "local", "--name", "a\nb"), 2, "--name is empty or holds what"),
        (("--format", "csv", "--key-file", "key", "--out", "."), 5, ".: is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(here)
    before = sorted(path.name for path in here.iterdir())
    ran = Ran(capsys, "export", "run", *options)
    assert ran.code == code and said in ran.sentence
    assert sorted(path.name for path in here.iterdir()) == before


def test_what_is_no_run_and_what_needs_no_catalogue_is_refused(
    capsys: pytest.CaptureFixture[str], here: Path, tmp_path: Path
) -> None:
    for folder, said in ((tmp_path, "holds no run.json"), (tmp_path / "none", "is not a folder")):
        ran = Ran(capsys, "export", folder, "--format", "csv")
        assert ran.code == 3 and said in ran.sentence
    ran = Ran(capsys, "export", here / "known", "--format", "stix", "--catalogue", here / "local")
    assert ran.code == 2 and "was labelled without a catalogue" in ran.sentence


def test_without_the_extra_the_sentence_says_which(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stix2", None)
    monkeypatch.delitem(sys.modules, "service.exports.stix", raising=False)
    monkeypatch.delitem(sys.modules, "service.exports.stix_parts", raising=False)
    ran = Ran(capsys, "export", here / "known", "--format", "stix")
    assert ran.code == 2 and "pip install 'probewatch[exports]'" in ran.sentence


def test_a_run_without_findings_exports_files_that_are_valid(here: Path, tmp_path: Path) -> None:
    rows = [{"account_id": f"a-{i}", "prompt": f"Good morning, it is day {i}."} for i in range(4)]
    (tmp_path / "calm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("label", tmp_path / "calm.jsonl", "--out", tmp_path / "calm", "--quiet")
    for format in ("stix", "ocsf", "csv"):
        run("export", tmp_path / "calm", "--format", format)
    assert stix2validator.validate_string((tmp_path / "calm" / FILES[0]).read_text()).is_valid
    assert (tmp_path / "calm" / FILES[1]).read_bytes() == b""
    assert len((tmp_path / "calm" / FILES[2]).read_text().splitlines()) == 1


def test_infinite_evidence_is_still_json(here: Path) -> None:
    selected = read_selected(here / "run", [], [])
    account = Account(**sample_account(account_id="a", log10_e=float("inf"), log10_max_e=float("nan")))
    (line,) = ocsf_lines(type(selected)(**{**vars(selected), "accounts": [account]}), NAMES)
    assert json.loads(line)["unmapped"]["log10_e"] is None and problems(json.loads(line)) == []
