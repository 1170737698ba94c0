"""Excerpts: none unless the operator opts in; redacted, bounded, read with a note, forgotten in time, nowhere else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.excerpts import excerpt, redacted
from service.retention import prune
from service.store.excerpts import MOST, READ, Excerpt, keep_excerpts, read_excerpts
from service.store.keys import Role, add_key
from tests.console_store import SAMPLE
from tests.serving import Running, running
from tests.stores import new_store

SUSPECT = "acct_0032"
MARK = "Zanzibar-quux"  # a word that is found wherever the prompt is


def suspicious() -> list[dict[str, Any]]:
    """Events that match known templates, marked at their beginning, with what must be redacted."""
    records = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    own = [record for record in records if record["account_id"] == SUSPECT and "prompt" in record]
    return [{**one, "prompt": f"{MARK} for ann@example.org, 4111 1111 1111 1111.\n{one['prompt']}"} for one in own]


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("keeping")
    with running(f"sqlite:///{folder / 'store.db'}", excerpt_hours=24, excerpt_characters=80) as server:
        answer = server.client.post("/v1/score/batch", json={"events": suspicious()})
        assert answer.status_code == 200
        server.publish()
        yield server


def rows(server: Running, query: str) -> list[Any]:
    with server.service.store.reading() as connection:
        return list(connection.execute(text(query)).all())


def test_off_keeps_nothing(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}") as server:
        server.client.post("/v1/score/batch", json={"events": suspicious()})
        server.publish()
        assert rows(server, "SELECT * FROM excerpts") == []
        page = server.client.get(f"/account?id={SUSPECT}&excerpts=1").text
        assert MARK not in page and "h-excerpts" not in page and "prompts are not kept here" in page
        assert rows(server, "SELECT * FROM audit") == []
        assert MARK.encode() not in everything_in(tmp_path)


def test_on_keeps_the_strongest_redacted_and_cut(keeping: Running) -> None:
    kept = rows(keeping, "SELECT event_id, excerpt, strength FROM excerpts")
    assert len(kept) == MOST and {one.event_id for one in kept} <= {one["event_id"] for one in suspicious()}
    assert all(one.excerpt.startswith(f"{MARK} for [e-mail], [number].") for one in kept)
    assert all(len(one.excerpt) <= 80 and one.strength >= 0.9 for one in kept)


def test_every_look_is_noted_and_pages_without_it_show_none(keeping: Running) -> None:
    before = len(rows(keeping, f"SELECT * FROM audit WHERE action = '{READ}'"))
    plain, looked = (keeping.client.get(f"/account?id={SUSPECT}{more}").text for more in ("", "&excerpts=1"))
    assert MARK not in plain and looked.count(MARK) == MOST and "ann@" not in looked and "holds no prompt" not in looked
    noted = rows(keeping, f"SELECT who, subject FROM audit WHERE action = '{READ}'")
    assert len(noted) == before + 1 and noted[-1].who == "loopback" and SUSPECT not in noted[-1].subject


def test_nothing_else_says_them(keeping: Running, capfd: pytest.CaptureFixture[str]) -> None:
    paths = ["/", "/accounts", "/accounts.csv", f"/account/sheet?id={SUSPECT}&excerpts=1", "/metrics", "/v1/accounts"]
    said = [keeping.client.get(path).text for path in [*paths, f"/v1/accounts/{SUSPECT}", "/campaigns", "/templates"]]
    assert [MARK in one for one in said] == [False] * len(said)
    logged = capfd.readouterr()
    assert MARK not in logged.out + logged.err


def test_they_are_forgotten_in_time_and_with_the_account(tmp_path: Path) -> None:
    def n_of(server: Running) -> list[int]:
        return [one.n for one in rows(server, "SELECT count(*) AS n FROM excerpts GROUP BY account_no")]

    first = suspicious()[:8]
    second = [{**one, "account_id": "b", "event_id": f"b{i}"} for i, one in enumerate(first)]
    with running(f"sqlite:///{tmp_path / 'store.db'}", excerpt_hours=1) as server:
        server.client.post("/v1/score/batch", json={"events": [*first, *second]})
        n, also = n_of(server)
        assert n == also > 1
        assert server.client.delete("/v1/accounts/b").status_code == 204
        assert n_of(server) == [n]
        with server.service.store.writing() as connection:
            connection.execute(text("UPDATE excerpts SET kept = kept - 3700000000"))
        prune(server.service.store, server.service.settings, time.time_ns() // 1000, "test")
        assert n_of(server) == []
        server.client.post(
            "/v1/score/batch", json={"events": [{**one, "event_id": one["event_id"][1:]} for one in first]}
        )
        assert n_of(server) == [n]
    with running(f"sqlite:///{tmp_path / 'store.db'}") as off:
        prune(off.service.store, off.service.settings, time.time_ns() // 1000, "test")
        assert n_of(off) == []


def test_a_scorer_may_not_look(tmp_path: Path) -> None:
    with running(f"sqlite:///{tmp_path / 'store.db'}", excerpt_hours=1) as server:
        server.client.post("/v1/score/batch", json={"events": suspicious()[:2]})
        server.publish()
        with server.service.store.writing() as connection:
            keys = {role: add_key(connection, role, "x", None, "test") for role in Role}
        server.service.gate.refresh()
        for role, shown in ((Role.SCORER, False), (Role.ANALYST, True), (Role.ADMIN, True)):
            headers = {"authorization": f"Bearer {keys[role]}"}
            answer = server.client.get(f"/account?id={SUSPECT}&excerpts=1", headers=headers)
            assert (MARK in answer.text) == shown, role
        noted = rows(server, f"SELECT who FROM audit WHERE action = '{READ}'")
        assert [one.who for one in noted] == [keys[role].split("_")[1] for role in (Role.ANALYST, Role.ADMIN)]


def test_the_strongest_are_kept_whatever_the_order(store_url: str) -> None:
    now = time.time_ns() // 1000
    with new_store(store_url) as store, store.writing() as connection:
        for start in (8, 0, 4, 12):
            keep_excerpts(connection, [(1, f"e{i:02d}", now, i / 100, f"t{i}") for i in range(start, start + 4)])
        found = read_excerpts(connection, 1, "who", "digest")
    assert found == [Excerpt(f"e{i:02d}", now, f"t{i}") for i in reversed(range(16 - MOST, 16))]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("Mail ann.b+x@mail.example.org or <bob@x.de>.", "Mail [e-mail] or <[e-mail]>."),
        ("Call +49 (30) 123-45 67 89 at 12:30.", "Call [number] at 12:30."),
        ("Card 4111-1111-1111-1111, ４１１１ １１１１ １１１１ １１１１", "Card [number], [number]"),
        ("sk-proj-abc123DEF456ghi789jkl, sk_live_abcdefghijkl, AKIAIOSFODNN7EXAMPLE", "[key], [key], [key]"),
        ("https://u:p@ex.org/a?token=abc#f http://x.y/z", "https://ex.org/a?[query] http://x.y/z"),
        ("Pay 1,000,000 for 12 items of compute_the_longest_common_subsequence(a, b)", None),
        ("nul\0 bell\a \u202eright", "nul  bell   right"),
        ("邮件 王@例子.公司 电话 138 0013 8000", "邮件 [e-mail] 电话 [number]"),
    ],
)
def test_redaction(given: str, left: str | None) -> None:
    assert redacted(given) == (given if left is None else left)


def test_what_the_cut_divides_is_left_out() -> None:
    long = "x " * 160 + "secret.person@example.org and more " * 50
    assert all("secret" not in excerpt(long[i:], 300) for i in range(0, 320, 7))
    assert excerpt("一" * 5_000, 300) == "一" * 300


@pytest.mark.parametrize("hostile", ["a-", "a", "http://", "1 ", "@", "a.@", "(1", "sk-"])
def test_no_text_takes_for_ever(hostile: str) -> None:
    assert len(redacted(hostile * 10_000)) <= 40_000 * len(hostile)
