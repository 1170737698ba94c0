"""A campaign that nobody knew, from traffic to flags: label, discover, approve --tier exclusive, label what came later.

And what is refused: wordings that ordinary accounts send, and ordinary traffic that is too little to certify anything.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from classifier.catalogue import open_catalogue
from service import cli, exits
from service.recertification import prompts_needed
from tests.command import Ran
from tests.forgeries import QUILL, fill, rows
from tests.runs import write

APPROVED = datetime(2026, 9, 3, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FORGERS = 24
NOUNS = (
    *("kettle", "harbour", "violin", "ledger", "orchard", "tunnel", "balcony", "compass", "meadow", "pulley"),
    *("saddle", "lantern", "glacier", "bakery", "turbine", "mosaic", "canyon", "easel", "ferry", "goblet"),
)


def chat(n: int, seed: int) -> list[str]:
    """Distinct small requests of people."""
    rng = np.random.default_rng(seed)
    asks = ("How do I mend a", "Tell me about the old", "Where was the first", "Is it wise to paint a", "Who owns this")
    ends = ("before winter", "in one sentence", "for my class", "on a small budget", "next to the church")
    picked = [(rng.choice(asks), *rng.choice(NOUNS, 3, replace=False), rng.choice(ends)) for _ in range(n)]
    return [f"{ask} {a}, {b} or {c} {end}? ({i})" for i, (ask, a, b, c, end) in enumerate(picked)]


def ordinary(accounts: int, each: int) -> list[dict[str, Any]]:
    return [{"account_id": f"customer-{i}", "prompt": prompt} for i in range(accounts) for prompt in chat(each, seed=i)]


def sent(account: str, prompts: list[str], start: datetime) -> list[dict[str, Any]]:
    """A prompt an hour."""
    return [
        {
            "event_id": f"{account}-{start:%m%d}-{i}",
            "account_id": account,
            "prompt": prompt,
            "timestamp": (start + timedelta(hours=i)).isoformat(),
        }
        for i, prompt in enumerate(prompts)
    ]


def traffic(seed: int, start: datetime, forgers: range) -> list[dict[str, Any]]:
    """Accounts that extract with every second prompt, and twice as many others."""
    records = []
    for i in forgers:
        forged, asked = fill(QUILL, 15, seed=1000 * seed + i), chat(15, seed=1000 * seed + i)
        mixed = [text for pair in zip(forged, asked, strict=True) for text in pair]
        records += sent(f"forger-{i}", mixed, start)
    for i in range(2 * FORGERS):
        records += sent(f"honest-{i}", chat(10, seed=2000 * seed + i), start)
    return records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traffic of before any approval and its run; ordinary traffic, enough to certify on."""
    folder = tmp_path_factory.mktemp("made")
    first = write(folder / "before.jsonl", traffic(1, APPROVED - 5 * DAY, range(FORGERS)))
    write(folder / "ordinary.jsonl", ordinary(44, 150))
    assert exits.run_app(cli.app, ["label", str(first), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder


def found(capsys: pytest.CaptureFixture[str], run: Path) -> str:
    ran = Ran(capsys, "templates", "discover", run, "--json")
    (finding, *_) = json.loads(ran.out)["findings"]
    assert finding["n_accounts"] == FORGERS
    return str(finding["id"])


def approving(made: Path, id: str, local: Path, *more: object) -> tuple[object, ...]:
    facts = ("--family", "night_mill", "--capability", "coding", "--catalogue", local, "--yes")
    return ("templates", "approve", made / "run", id, *facts, "--tier", "exclusive", *more)


def accounts_of(run: Path) -> dict[str, dict[str, Any]]:
    return {row["account_id"]: row for row in pq.read_table(run / "accounts.parquet").to_pylist()}


def test_from_an_unknown_campaign_to_flags(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.approving.now", APPROVED.isoformat)
    local, before = tmp_path / "local", accounts_of(made / "run")
    assert "flag" not in {row["decision"] for row in before.values()}
    approve = approving(made, found(capsys, made / "run"), local, "--against", made / "ordinary.jsonl")
    ran = Ran(capsys, *approve)
    assert (ran.code, ran.err) == (0, "") and max(map(len, ran.out.splitlines()[:-1])) <= 80
    said = " ".join(ran.out.replace("\u00a0", " ").split())
    assert "signature night_mill/0 tier exclusive" in said
    assert (
        "Certified on 22 ordinary accounts of at least 100 distinct prompts that had no part in it: none is above the "
        "baseline, 0 of 3,300 distinct prompts match. So up to 13 % of all such accounts may yet be above it (95 %)"
    ) in said
    (entry,) = open_catalogue(local).exclusive
    assert (entry.origin.n_certified, entry.origin.since) == (22, APPROVED.isoformat())

    # what was labelled before, labelled again: no flag, but links
    again = Ran(capsys, "label", made / "before.jsonl", "--out", tmp_path / "again", "--catalogue", local, "--quiet")
    assert again.code == 0
    for name, row in accounts_of(tmp_path / "again").items():
        is_forger = name.startswith("forger")
        assert row["decision"] == ("review" if is_forger else before[name]["decision"])
        if is_forger:
            assert (row["basis"], row["capabilities"], row["flagged_at"]) == ("analyst", ["coding"], None)
            assert row["reasons"] == [
                "sent 15 distinct prompts of night_mill before an analyst approved it on 2026-09-03: linked, not "
                "evidence"
            ]
            assert row["log10_e"] == before[name]["log10_e"] and row["campaign_id"] is None

    # half of the forgers go on, and all traffic is labelled together: flags from what came later alone
    write(tmp_path / "later.jsonl", traffic(2, APPROVED + DAY, range(FORGERS // 2)))
    sources = (made / "before.jsonl", tmp_path / "later.jsonl")
    assert Ran(capsys, "label", *sources, "--out", tmp_path / "all", "--catalogue", local, "--quiet").code == 0
    accounts = accounts_of(tmp_path / "all")
    (campaign,) = pq.read_table(tmp_path / "all" / "campaigns.parquet").to_pylist()
    for i in range(FORGERS):
        row = accounts[f"forger-{i}"]
        assert (row["decision"], row["basis"]) == (("flag", "signature") if i < 12 else ("review", "analyst"))
        assert row["campaign_id"] == campaign["campaign_id"]
        assert any("before an analyst approved it on 2026-09-03: linked, not evidence" in r for r in row["reasons"])
        assert any("one of 12 accounts in" in reason for reason in row["reasons"]) is (i < 12)
        if i < 12:
            assert row["flagged_at"] > APPROVED and row["reasons"][0].startswith("15 of 60 distinct prompts")
    assert (campaign["n_accounts"], campaign["template_families"]) == (12, ["night_mill"])
    assert campaign["first_seen"] > APPROVED
    honest = [row["decision"] for name, row in accounts.items() if name.startswith("honest")]
    assert len(honest) == 2 * FORGERS and set(honest) <= {"clear", "insufficient_evidence"}
    document = json.loads((tmp_path / "all" / "run.json").read_text())
    assert document["fdr_strata"][-1]["stratum"] == "ordinary accounts, of night_mill"


@pytest.mark.parametrize(
    ("half", "said"),
    [
        (0, "Signature night_mill/0 may not flag: ordinary prompts hold nearly all of its 43 runs of three words"),
        (1, "night_mill is too common to flag: 1 of 22 ordinary accounts of at least 100 distinct prompts matched"),
    ],
)
def test_a_wording_that_an_ordinary_account_sends_may_not_flag(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path, half: int, said: str
) -> None:
    """Whether it is of the accounts beside which the signature is made, or of those that certify it."""
    honest = ordinary(44, 150)
    names = sorted({f"own:{row['account_id']}" for row in honest}, key=lambda name: blake2b(name.encode()).digest())
    honest.append({"account_id": names[half].removeprefix("own:"), "prompt": fill(QUILL, 1, seed=77)[0]})
    against = ("--against", write(tmp_path / "ordinary.jsonl", honest))
    ran = Ran(capsys, *approving(made, found(capsys, made / "run"), tmp_path / "local", *against))
    assert ran.code == 3 and said in ran.sentence and ran.sentence.endswith("--tier public.")
    assert half == 0 or "the worst with 1 of 151: expected at most 0.03\u00a0% of each one's" in ran.sentence
    assert not (tmp_path / "local").exists()


@pytest.mark.parametrize(
    ("accounts", "each", "said"),
    [
        (38, 200, "19 ordinary accounts of at least 100 distinct prompts are held out, expected 20"),
        (
            1,
            200,
            "0 ordinary accounts of at least 100 distinct prompts are held out, expected 20; with 0 matches in their 0",
        ),
        (60, 99, "0 ordinary accounts of at least 100 distinct prompts are held out, expected 20"),
        (
            44,
            100,
            "0 matches in their 2,200 distinct prompts it matches at most 0.14\u00a0% of such (95 %), expected 0.1",
        ),
    ],
)
def test_too_little_ordinary_traffic_certifies_nothing(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path, accounts: int, each: int, said: str
) -> None:
    against = write(tmp_path / "ordinary.jsonl", ordinary(accounts, each))
    ran = Ran(capsys, *approving(made, found(capsys, made / "run"), tmp_path / "local", "--against", against))
    assert ran.code == 3 and said in ran.sentence and not (tmp_path / "local").exists()
    assert "It takes 40 such accounts and some 5,990 distinct prompts, half of each to make it beside" in ran.sentence


def test_ordinary_traffic_must_be_given_and_approval_makes_no_application(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    ran = Ran(capsys, *approving(made, "x", tmp_path / "local"))
    assert ran.code == 2 and ran.sentence.startswith("--tier exclusive needs --against: traffic known to be ordinary")
    ran = Ran(capsys, *approving(made, "x", tmp_path / "local", "--tier", "benign"))
    assert ran.code == 2 and ran.sentence == "--tier got 'benign': expected exclusive or public."


def test_a_peer_s_signature_flags_only_once_it_is_certified_here(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "samples.jsonl", rows(fill(QUILL, 30, seed=1)))
    peer = ("--catalogue", tmp_path / "peer", "--yes", "--tier", "exclusive", "--against", made / "ordinary.jsonl")
    assert Ran(capsys, "templates", "add", "--from", file, "--family", "night_mill", *peer).code == 0
    out = tmp_path / "night.safetensors"
    assert Ran(capsys, "templates", "export", "--catalogue", tmp_path / "peer", "--out", out).code == 0
    taken = ("templates", "import", out, "--yes", "--catalogue")
    assert Ran(capsys, *taken, tmp_path / "public").code == 0
    (public,) = open_catalogue(tmp_path / "public").entries
    assert (public.signature.facts.tier.value, public.origin.n_certified) == ("public", 0)
    assert Ran(capsys, *taken, tmp_path / "ours", "--tier", "exclusive").code == 2
    begun = datetime.now(UTC)
    ran = Ran(capsys, *taken, tmp_path / "ours", "--tier", "exclusive", "--against", made / "ordinary.jsonl")
    assert ran.code == 0 and "Certified on 22 ordinary accounts" in ran.out
    (entry,) = open_catalogue(tmp_path / "ours").exclusive
    assert begun <= datetime.fromisoformat(entry.origin.since) <= datetime.now(UTC)
    shown = Ran(capsys, "templates", "show", "night_mill/0", "--catalogue", tmp_path / "ours").out
    assert "certified on        22 ordinary accounts" in shown


def test_how_many_prompts_it_takes() -> None:
    assert [prompts_needed(n, 0.001) for n in (0, 1, 2)] == [2995, 4742, 6294]
