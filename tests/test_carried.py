"""service/exports/carried.py: a campaign found by one laboratory is found by the next, and hostile bundles are not."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from classifier.catalogue import open_catalogue
from classifier.exchange import SharedSignature, pack
from service.exports import carried
from service.exports.carried import EXTENSION_ID, digest_of
from tests.command import Ran
from tests.forgeries import ASKS, QUILL, fill, rows
from tests.runs import write
from tests.sharing import installation, run

Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another laboratory, which has exported what it found to `sent`."""
    folder = installation(tmp_path_factory.mktemp("there"))
    stix = ("--format", "stix", "--review", "--catalogue", folder / "local", "--out", folder / "sent")
    run("export", folder / "run", *stix)
    return folder


@pytest.fixture
def objects(there: Path) -> Objects:
    return list(json.loads((there / "sent").read_bytes())["objects"])


def indicator(objects: Objects, family: str = "night_mill") -> dict[str, Any]:
    """The one of a family."""
    return next(one for one in objects if one["type"] == "indicator" and content(one)["family"] == family)


def content(item: dict[str, Any]) -> dict[str, Any]:
    return item["extensions"][EXTENSION_ID]  # type: ignore[no-any-return]


def bundle(path: Path, objects: Any) -> Path:
    path.write_text(json.dumps({"type": "bundle", "id": "bundle--x", "objects": objects}))
    return path


# --- there and back ---------------------------------------------------------------------------------------------------


def test_a_campaign_that_one_found_is_found_by_the_other(
    capsys: pytest.CaptureFixture[str], there: Path, tmp_path: Path
) -> None:
    prompts = fill(QUILL, 60, seed=77)  # other payloads, sent by accounts of their own
    mill = [{**row, "account_id": f"ours-{i % 6}"} for i, row in enumerate(rows(prompts))]
    source = write(tmp_path / "ours.jsonl", [*mill, *rows([*ASKS] * 4)])
    run("label", source, "--out", tmp_path / "before", "--quiet")
    ran = Ran(capsys, "templates", "import", there / "sent", "--catalogue", tmp_path / "ours", "--yes")
    assert (ran.code, ran.err) == (0, "") and "signature night_mill/0\n" in ran.out and "1 of them new" in ran.out
    run("label", source, "--out", tmp_path / "after", "--catalogue", tmp_path / "ours", "--quiet")
    assert families(tmp_path / "before") == [None] * 108
    assert families(tmp_path / "after") == ["night_mill"] * 60 + [None] * 48
    judged = pq.read_table(tmp_path / "after" / "accounts.parquet").to_pylist()
    assert {row["account_id"] for row in judged if row["decision"] == "review"} == {f"ours-{i}" for i in range(6)}


def families(folder: Path) -> list[str | None]:
    (labels,) = (folder / "labels").iterdir()
    return list(pq.read_table(labels)["template_family"].to_pylist())


def test_what_arrives_is_what_was_sent_without_its_note(there: Path, objects: Objects, tmp_path: Path) -> None:
    run("templates", "import", there / "sent", "--catalogue", tmp_path / "ours", "--yes", "--note", "by mail")
    (sent,), (got,) = open_catalogue(there / "local").entries, open_catalogue(tmp_path / "ours").entries
    assert got.signature.facts == sent.signature.facts
    assert got.signature.shingles.tobytes() == sent.signature.shingles.tobytes()
    assert got.signature.vectors.tobytes() == sent.signature.vectors.tobytes()
    assert (got.origin.n_samples, got.origin.n_accounts) == (sent.origin.n_samples, sent.origin.n_accounts)
    said = content(indicator(objects))
    raw = base64.b64decode(said["exchange"])
    assert hashlib.sha256(raw).hexdigest() == said["exchange_sha256"]
    assert said["shingles_sha256"] == digest_of(sent.signature) == indicator(objects)["pattern"].split()[-1]
    assert got.origin.note.startswith("exchange ") and got.origin.note.endswith(": by mail")


def test_what_ships_is_named_and_not_carried(objects: Objects) -> None:
    shipped = content(indicator(objects, "pw_review_bug"))
    assert shipped["tier"] == "exclusive" and "exchange" not in shipped and len(shipped["shingles_sha256"]) == 64


def test_an_indicator_that_a_platform_has_passed_on_alone_is_enough(objects: Objects, tmp_path: Path) -> None:
    lone = {**indicator(objects), "id": "indicator--1", "labels": ["seen"], "x_platform_score": 50}
    run("templates", "import", bundle(tmp_path / "one", [lone]), "--catalogue", tmp_path / "ours", "--yes")
    assert [one.signature.facts.id for one in open_catalogue(tmp_path / "ours").entries] == ["night_mill/0"]


def test_a_byte_order_mark_is_no_harm(there: Path, tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf" + (there / "sent").read_bytes())
    run("templates", "import", tmp_path / "marked", "--catalogue", tmp_path / "ours", "--yes")


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], file: Path, folder: Path) -> str:
    ran = Ran(capsys, "templates", "import", file, "--catalogue", folder, "--yes")
    assert ran.code == 3 and not folder.exists()
    return ran.sentence


def carrying(**changes: Any) -> Callable[[Objects], Objects]:
    def change(objects: Objects) -> Objects:
        content(indicator(objects)).update(changes)
        return objects

    return change


def with_raw(raw: bytes) -> Callable[[Objects], Objects]:
    return carrying(exchange=base64.b64encode(raw).decode(), exchange_sha256=hashlib.sha256(raw).hexdigest())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda objects: [], "this STIX bundle carries no signature; there is none to add"),
        (lambda objects: [indicator(objects, "pw_review_bug")], "only 1 name of such as ship with probewatch"),
        (lambda objects: [{**indicator(objects), "revoked": True}], "carries no signature"),
        (lambda objects: [{**indicator(objects), "type": "malware"}], "carries no signature"),
        (lambda objects: [indicator(objects)] * 2, "carries the signature night_mill/0 more than once"),
        (lambda objects: [7], "objects[0]: it is no STIX object"),
        (lambda objects: [{"type": "indicator", "extensions": [1]}], "objects[0]: it is no STIX object"),
        (lambda objects: [{"type": "indicator", "extensions": {EXTENSION_ID: "x"}}], "extension is no object"),
        (lambda objects: {"a": 1}, "is JSON and no STIX bundle"),
        (carrying(exchange=None), "is not valid base64"),
        (carrying(exchange=["x"]), "is not valid base64"),
        (carrying(exchange="x!x"), "is not valid base64"),
        (carrying(exchange="é"), "is not valid base64"),
        (carrying(exchange_sha256="0" * 64), "its sha256 is not the one beside it"),
        (carrying(exchange_sha256=None), "its sha256 is not the one beside it"),
        (with_raw(b""), "it was cut short, or is something else"),
        (with_raw(b"\xff" * 64), "it was cut short, or is something else"),
        (with_raw(b"\x02" + b"\0" * 7 + b"{}"), "it is not as expected"),
        (with_raw(b"\x00" * 4_000), "it is not as expected"),
    ],
)
def test_a_bundle_that_is_none_of_ours_is_refused(
    capsys: pytest.CaptureFixture[str],
    objects: Objects,
    tmp_path: Path,
    change: Callable[[Objects], Objects],
    said: str,
) -> None:
    assert said in refused(capsys, bundle(tmp_path / "sent", change(objects)), tmp_path / "ours")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "it is not valid JSON, or nested too deeply"),
        (b'{"type": "bundle", "objects": ' + b"[" * 200_000, "it is not valid JSON, or nested too deeply"),
        (b'{"type": "bundle", "objects": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
        (b'{"type": "bundle", "objects": [1' + b"0" * 9_000 + b"]}", "it is not valid JSON"),
        (b'{"type": "bundle", "objects": ["\xff\xfe"]}', "it is not valid JSON"),
        (b'{"type": ["bundle"], "objects": []}', "is JSON and no STIX bundle"),
        (b'{"type": "bundle"}', "is JSON and no STIX bundle"),
        (b"[1, 2, 3]", "it is not as expected"),
        (b"", "it is not as expected"),
    ],
)
def test_a_file_that_is_no_bundle_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: bytes, said: str
) -> None:
    (tmp_path / "sent").write_bytes(text)
    assert said in refused(capsys, tmp_path / "sent", tmp_path / "ours")


def test_a_bundle_that_is_too_large_is_not_read(
    capsys: pytest.CaptureFixture[str], there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "MOST_BYTES", 1_000)
    assert "expected at most 1,000" in refused(capsys, there / "sent", tmp_path / "ours")


def test_what_a_bundle_carries_passes_the_checks_of_an_exchange_file(
    capsys: pytest.CaptureFixture[str], there: Path, objects: Objects, tmp_path: Path
) -> None:
    local = open_catalogue(there / "local")
    thin = local.entries[0].signature
    raw = pack([SharedSignature(type(thin)(thin.facts, thin.shingles[:3], thin.vectors), 30, 4)], local.encoder)
    said = refused(capsys, bundle(tmp_path / "thin", with_raw(raw)(objects)), tmp_path / "ours")
    assert "matches at 6 of 3 runs of three words" in said
    uses = write(tmp_path / "uses.jsonl", rows(fill(QUILL, 60, seed=3), accounts=1))
    ours = ("--catalogue", tmp_path / "ours", "--yes")
    ran = Ran(capsys, "templates", "import", there / "sent", *ours, "--against", uses)
    assert ran.code == 3 and "expected less than 1\u00a0%" in ran.sentence and not (tmp_path / "ours").exists()
    ran = Ran(capsys, "templates", "import", there / "sent", "--catalogue", there / "local", "--yes")
    assert ran.code == 3 and "of a family whose name is known already" in ran.sentence
    ran = Ran(capsys, "templates", "import", there / "sent", "day_mill/0", *ours)
    assert ran.code == 2 and "day_mill/0: is no signature of" in ran.sentence
