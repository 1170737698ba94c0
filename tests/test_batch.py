"""service/batch.py with the shipped bundle: what a run leaves, and records that are bad or come twice."""

from __future__ import annotations

import json
import random
import socket
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.errors import InputError, UsageError
from classifier.exceptions import AgreedException
from classifier.pipeline import Pipeline
from classifier.reachback import Approval
from classifier.types import (
    ACCOUNT_SCHEMA,
    CAMPAIGN_SCHEMA,
    COUNT_SCHEMA,
    DISCOVERED_SCHEMA,
    LABEL_SCHEMA,
    UNIT_SCHEMA,
)
from classifier.units import merge_units
from service.batch import Progress, label
from service.context import CONTEXT_SCHEMA
from tests.runs import counts_of, labels_of, outputs, records, write

SAMPLE = data_dir() / "sample" / "traffic.jsonl"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


# --- what a run leaves ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample [1] 'x'") / "run"
    label([str(SAMPLE)], folder, pipeline=pipeline)
    return folder


def test_every_output_is_there_and_says_what_made_it(sample: Path, pipeline: Pipeline) -> None:
    (part,) = [path.stem for path in (sample / "labels").iterdir()]
    schemas = {
        f"labels/{part}.parquet": LABEL_SCHEMA,
        f"evidence/units-{part}.parquet": UNIT_SCHEMA,
        "evidence/counts.parquet": COUNT_SCHEMA,
        "accounts.parquet": ACCOUNT_SCHEMA,
        "campaigns.parquet": CAMPAIGN_SCHEMA,
        "discovered.parquet": DISCOVERED_SCHEMA,
        f"context/{part}.parquet": CONTEXT_SCHEMA,
    }
    for name, schema in schemas.items():
        found = pq.read_schema(sample / name)
        assert found.equals(schema), name
        metadata = {key: found.metadata[key] for key in (b"schema_version", b"bundle_id", b"catalogue_id")}
        assert metadata == {
            b"schema_version": b"1",
            b"bundle_id": pipeline.bundle_id.encode(),
            b"catalogue_id": pipeline.catalogue_id.encode(),
        }
    assert set(outputs(sample)) == {*schemas, "rejected.jsonl", "run.json", "resume/ledger.json", "resume/lock"}


def test_the_sample_is_labelled_whole(sample: Path) -> None:
    truth = json.loads((SAMPLE.parent / "truth.json").read_text())
    sent = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    assert counts_of(sample) == {
        "read": len(sent),
        "labelled": truth["n_events"],
        "rejected": 0,
        "duplicates": len(truth["retries"]),
    }
    found = labels_of(sample)
    assert found["event_id"].to_pylist() == list(dict.fromkeys(event["event_id"] for event in sent))
    accounts = {row["account_id"]: row["n_prompts"] for row in pq.read_table(sample / "accounts.parquet").to_pylist()}
    assert accounts == {name: account["n_events"] for name, account in truth["accounts"].items()}


def test_the_sample_s_campaigns_are_found_and_nobody_else(sample: Path) -> None:
    truth = json.loads((SAMPLE.parent / "truth.json").read_text())["accounts"]
    rows = pq.read_table(sample / "accounts.parquet").to_pylist()
    flagged = {row["account_id"]: row for row in rows if row["decision"] == "flag"}
    assert set(flagged) == {name for name, account in truth.items() if account["campaign"] is not None}
    together = {frozenset(n for n in flagged if truth[n]["campaign"] == c) for c in ("A", "B")}
    campaigns = pq.read_table(sample / "campaigns.parquet").to_pylist()
    members = {
        c["campaign_id"]: frozenset(n for n, r in flagged.items() if r["campaign_id"] == c["campaign_id"])
        for c in campaigns
    }
    assert set(members.values()) == together
    assert all(row["first_seen"] <= row["flagged_at"] <= row["last_seen"] for row in flagged.values())


def test_evidence_of_the_parts_is_that_of_the_labels(sample: Path) -> None:
    (part,) = (sample / "evidence").glob("units-*.parquet")
    units = pq.read_table(part)
    assert merge_units([units]).equals(units.replace_schema_metadata())
    counted = pq.read_table(sample / "evidence" / "counts.parquet")
    assert sum(counted["n1"].to_pylist()) == sum(1 for channel in units["channel"].to_pylist() if channel == 0)
    ids = set(labels_of(sample)["event_id"].to_pylist())
    named = [i for row in pq.read_table(sample / "accounts.parquet").to_pylist() for i in row["evidence_event_ids"]]
    assert set(named) <= ids and len(named) > 0


def test_run_json_says_what_was_done(sample: Path, pipeline: Pipeline) -> None:
    document = json.loads((sample / "run.json").read_text())
    truth = json.loads((SAMPLE.parent / "truth.json").read_text())
    decisions = Counter(pq.read_table(sample / "accounts.parquet")["decision"].to_pylist())
    assert (document["bundle_id"], document["catalogue_id"]) == (pipeline.bundle_id, pipeline.catalogue_id)
    assert {name: n for name, n in document["decisions"].items() if n} == dict(decisions)
    assert (document["population"], document["population_is"]) == (len(truth["accounts"]), "the accounts of this run")
    assert document["settings"]["tokenizer"] == "gigatoken"
    epsilon = max((s.epsilon for s in pipeline.certification), default=1.0)
    assert document["fdr_bound"] == min(1.0, 0.01 + epsilon * document["population"] / decisions["flag"])
    assert document["fdr_strata"] == [
        {
            "stratum": s.stratum,
            "n": s.n,
            "k": s.k,
            "epsilon": s.epsilon,
            "registered": None,
            "adds": min(1.0, s.epsilon * document["population"] / decisions["flag"]),
        }
        for s in pipeline.certification
    ]
    (source,) = document["inputs"]
    assert source | {"digest": ""} == {
        "path": str(SAMPLE),
        "copies": [],
        "digest": "",
        "bytes": SAMPLE.stat().st_size,
        "records": truth["n_events"] + len(truth["retries"]),
    }


def test_agreed_exceptions_excuse_an_account_and_are_said(sample: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    families = ("pw_review_bug", "pw_seeded_code", "pw_task_evolution", "pw_pair_grader")
    agreed = [AgreedException("acct_0032", name, "ann", "their red team", date(2030, 1, 1)) for name in families]
    agreed.append(AgreedException("acct_0032", "another", "ann", "none of it is here", date(2030, 1, 1)))
    label([str(SAMPLE)], tmp_path / "run", pipeline=pipeline, exceptions=agreed)
    rows = {row["account_id"]: row for row in pq.read_table(tmp_path / "run" / "accounts.parquet").to_pylist()}
    before = {row["account_id"]: row for row in pq.read_table(sample / "accounts.parquet").to_pylist()}
    assert (before["acct_0032"]["decision"], rows["acct_0032"]["decision"]) == ("flag", "clear")
    assert rows["acct_0032"]["n_units"] == before["acct_0032"]["n_units"]
    assert rows["acct_0032"]["campaign_id"] is None
    assert rows["acct_0032"]["reasons"] == [
        f"{n} distinct prompt{'s' if n > 1 else ''} that match {name} count for nothing (ann, until 2030-01-01: their "
        "red team)"
        for name, n in sorted(zip(families, (13, 11, 9, 1), strict=True))
    ]
    assert {name for name, row in rows.items() if row["decision"] == "flag"} == {
        name for name, row in before.items() if row["decision"] == "flag" and name != "acct_0032"
    }
    said = json.loads((tmp_path / "run" / "run.json").read_text())["exceptions"]
    assert [one["n_units"] for one in said] == [13, 11, 9, 1, 0]
    assert said[0] == {
        **{"account": "acct_0032", "family": "pw_review_bug", "who": "ann", "why": "their red team"},
        **{"until": "2030-01-01", "n_units": 13},
    }
    label([str(SAMPLE)], tmp_path / "run", pipeline=pipeline)  # agreed upon no longer: as if it had never been
    assert outputs(tmp_path / "run") == outputs(sample)


def test_a_second_run_gives_the_same_bytes(sample: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    before = outputs(sample)
    label([str(SAMPLE)], sample, pipeline=pipeline)
    assert outputs(sample) == before
    label([str(SAMPLE)], tmp_path / "again", pipeline=pipeline)
    assert outputs(tmp_path / "again") == before


def test_order_and_split_do_not_matter(sample: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    random.Random(7).shuffle(lines)
    for name, part in (("a", lines[:700]), ("b", lines[700:701]), ("c", lines[701:])):
        write(tmp_path / f"{name}.jsonl", part)
    label([str(tmp_path)], tmp_path / "run", pipeline=pipeline, workers=1)
    for name in ("accounts", "campaigns", "discovered"):
        found, expected = (pq.read_table(folder / f"{name}.parquet") for folder in (tmp_path / "run", sample))
        assert found.equals(expected), name


def test_the_population_raises_the_bar(sample: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    label([str(SAMPLE)], tmp_path / "run", pipeline=pipeline, population=250_000)
    few, many = (
        pq.read_table(folder / "accounts.parquet")["log10_threshold"][0] for folder in (sample, tmp_path / "run")
    )
    assert many.as_py() > few.as_py() + 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["population_is"] == "as given"
    before = outputs(tmp_path / "run")
    with pytest.raises(UsageError, match="--population got 3: expected at least the 47 accounts"):
        label([str(SAMPLE)], tmp_path / "run", pipeline=pipeline, population=3)
    assert outputs(tmp_path / "run") == before


def test_it_needs_no_network(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    label([str(write(tmp_path / "a.jsonl", records(20)))], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run")["labelled"] == 20


# --- records ----------------------------------------------------------------------------------------------------------


def test_bad_records_are_rejected_and_the_rest_is_labelled(pipeline: Pipeline, tmp_path: Path) -> None:
    first, second = records(3), records(3, start=3)
    a = write(tmp_path / "a.jsonl", [first[0], "{broken", first[1], "[]", first[2]])
    b = write(tmp_path / "b.jsonl", [*second, {"account_id": "account-0"}])
    label([str(b), str(a)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 9, "labelled": 6, "rejected": 3, "duplicates": 0}
    rejected = [json.loads(line) for line in (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["source"], row["line"]) for row in rejected] == [(str(b), 4), (str(a), 2), (str(a), 4)]
    assert all(set(row) == {"source", "line", "reason"} and row["reason"] for row in rejected)


def test_nothing_that_could_be_labelled_is_an_input_error(pipeline: Pipeline, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.jsonl", ["{", "{}"])
    with pytest.raises(
        InputError, match=r"Not one of 2 records could be labelled; .*rejected\.jsonl says why for each\."
    ):
        label([str(bad)], tmp_path / "run", pipeline=pipeline)
    assert len((tmp_path / "run" / "rejected.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "run" / "run.json").exists()
    label([str(write(tmp_path / "good.jsonl", records(2)))], tmp_path / "run", pipeline=pipeline)  # adding what can be
    assert counts_of(tmp_path / "run") == {"read": 4, "labelled": 2, "rejected": 2, "duplicates": 0}


def test_the_first_of_equal_ids_wins_within_and_across_files_and_runs(pipeline: Pipeline, tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [*records(2), *records(1, account_id="late"), *records(1, start=2)])
    b = write(tmp_path / "b.jsonl", [*records(4, account_id="later"), *records(1, start=5)])
    label([str(a), str(b)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 9, "labelled": 5, "rejected": 0, "duplicates": 4}
    c = write(tmp_path / "c.jsonl", [*records(1, start=5, account_id="latest"), *records(1, start=6)])
    label([str(c)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 11, "labelled": 6, "rejected": 0, "duplicates": 5}
    owners = {row["event_id"]: row["account_id"] for row in labels_of(tmp_path / "run").to_pylist()}
    assert owners == {
        **{"e-0": "account-0", "e-1": "account-1", "e-2": "account-2", "e-3": "later"},
        **{"e-5": "account-1", "e-6": "account-2"},
    }


def test_without_an_id_nothing_is_a_duplicate(pipeline: Pipeline, tmp_path: Path) -> None:
    same = records(1, event_id=None) * 5
    a, b = write(tmp_path / "a.jsonl", same), write(tmp_path / "b.jsonl", same[:4])
    label([str(a)], tmp_path / "run", pipeline=pipeline)
    label([str(b)], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run") == {"read": 9, "labelled": 9, "rejected": 0, "duplicates": 0}
    (account,) = pq.read_table(tmp_path / "run" / "accounts.parquet").to_pylist()
    assert account["n_prompts"] == 9 and account["n_units"] <= 1  # one observation, however often it is sent
    assert account["first_seen"] == account["last_seen"] == datetime(2026, 5, 1, tzinfo=UTC)


def test_a_conversation_that_grows_by_fifty_turns_is_one_unit(pipeline: Pipeline, tmp_path: Path) -> None:
    """An agent at work sends all that was said again with every step; the newest turn of the user stays the same."""
    said = [{"role": "user", "content": "Please mend the parser of dates, and test it."}]
    requests = []
    for step in range(50):
        (request,) = records(1, start=step)
        del request["prompt"]
        requests.append(request | {"account_id": "agent", "messages": list(said)})
        said.append({"role": "assistant", "content": f"Step {step} of the work is done."})
    write(tmp_path / "grown.jsonl", requests)
    label([str(tmp_path / "grown.jsonl")], tmp_path / "run", pipeline=pipeline)
    (account,) = pq.read_table(tmp_path / "run" / "accounts.parquet").to_pylist()
    assert (account["n_prompts"], account["n_units"]) == (50, 1)
    (part,) = (tmp_path / "run" / "evidence").glob("units-*.parquet")
    assert pq.read_table(part)["channel"].to_pylist() == [0, 1]


def test_copies_of_a_file_are_read_once(pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", records(3, event_id=None))
    label([str(tmp_path)], tmp_path / "run", pipeline=pipeline)
    label([str(tmp_path / "b.jsonl")], tmp_path / "run", pipeline=pipeline)
    assert counts_of(tmp_path / "run")["labelled"] == 3
    (source,) = json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]
    assert (source["path"], source["copies"]) == (str(tmp_path / "a.jsonl"), [str(tmp_path / "b.jsonl")])


class Fixed:
    """A pipeline that takes no time: every prompt is harmless and an observation of its own."""

    bundle_id, catalogue_id, certification, n_families, tokenizer = "0" * 16, "none", (), 1, "none"
    hash_key = b""
    approvals: ClassVar[dict[str, Approval]] = {}

    def __init__(self, pipeline: Pipeline) -> None:
        self.baselines = pipeline.baselines

    def label(self, events: pa.RecordBatch) -> Any:
        n = len(events)
        given = {name: events[name] for name in ("event_id", "account_id", "timestamp")}
        key = pa.array(np.fromiter((hash(i) for i in events["event_id"].to_pylist()), np.int64, n).view(np.uint64))
        values = {
            "capability": "other",
            "unit": key,
            "scaffolds": [],
            **{f: 0.0 for f in LABEL_SCHEMA.names if f[:2] == "p_"},
        }
        labels = columns(n, LABEL_SCHEMA, {**values, **given})
        zeros = {f: 0 for f in UNIT_SCHEMA.names if f not in ("family", *given)}
        return SimpleNamespace(labels=labels, units=columns(n, UNIT_SCHEMA, {**zeros, **given, "key": key}))


def columns(n: int, schema: pa.Schema, values: Mapping[str, Any]) -> pa.Table:
    arrays = [
        value if isinstance(value := values.get(field.name), pa.Array) else pa.repeat(pa.scalar(value, field.type), n)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def test_a_million_lines_in_many_parts(pipeline: Pipeline, tmp_path: Path) -> None:
    with (tmp_path / "many.jsonl").open("w") as stream:
        for i in range(1_000_000):
            stream.write(f'{{"event_id":"{i % 999_000}","account_id":"a{i % 1_000}","prompt":"hi"}}\n')
    seen: list[Progress] = []
    fixed: Any = Fixed(pipeline)
    summary = label([str(tmp_path / "many.jsonl")], tmp_path / "run", pipeline=fixed, workers=1, progress=seen.append)
    assert (summary.counts.read, summary.counts.labelled, summary.counts.duplicates) == (1_000_000, 999_000, 1_000)
    assert [at.n_read for at in seen] == [65_536 * k for k in range(1, 16)] + [1_000_000]
    assert sum(pq.read_table(tmp_path / "run" / "accounts.parquet")["n_prompts"].to_pylist()) == 999_000


def test_an_unreadable_file_does_not_stop_the_others(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.jsonl", records(3))
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1 cut short")
    write(tmp_path / "in" / "c.jsonl", records(2, start=10))
    for _ in range(2):  # and again, from what is there
        label([str(tmp_path / "in")], tmp_path / "run", pipeline=pipeline)
        assert counts_of(tmp_path / "run") == {"read": 6, "labelled": 5, "rejected": 1, "duplicates": 0}
        (refused,) = map(json.loads, (tmp_path / "run" / "rejected.jsonl").read_text().splitlines())
        assert refused["source"].endswith("b.parquet") and refused["line"] == 0
    with pytest.raises(InputError, match=r"b\.parquet"):
        label([str(tmp_path / "in" / "b.parquet")], tmp_path / "alone", pipeline=pipeline)
