"""training/simulate*.py: what is written agrees with the truth beside it, rhythms are each kind's, a seed says all."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from classifier.bundle import data_dir
from tests.simulated import (
    ACCOUNTS,
    AFTER,
    BEFORE,
    CHANGE_DAY,
    DAYS,
    EXCHANGES,
    FIRST_DAY,
    LIVE,
    MEMBERS,
    RAMP,
    START,
    TURN_DAY,
    TURNING,
    World,
    campaign,
    read_world,
    scenario,
)

if TYPE_CHECKING:
    from training.simulate_accounts import Accounts
    from training.simulate_events import Events
    from training.simulate_texts import Texts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    from training.simulate import simulate

    folder = tmp_path_factory.mktemp("simulated") / "world"
    simulate(folder, scenario())
    return read_world(folder)


@dataclass(frozen=True)
class Sent:
    """Accounts and their events before they become texts."""

    accounts: Accounts
    events: Events
    texts: Texts

    def of_kind(self, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        from training.simulate_kinds import ALL_KINDS

        number = next(place for place, kind in enumerate(ALL_KINDS) if kind.name == name)
        return np.asarray(self.accounts.kind[self.events.account] == number)

    def local_time(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Microseconds since 1970 on the clock of each event's account."""
        zone = (self.accounts.curve[self.events.account] % 24 + 11) % 24 - 11
        return np.asarray(self.events.time + zone * 3_600_000_000)


@pytest.fixture(scope="module")
def sent() -> Sent:
    from training.simulate import read_all_texts
    from training.simulate_accounts import make_accounts
    from training.simulate_events import Events, make_events
    from training.simulate_scenario import make_scenario, simple_plan

    whole = make_scenario(simple_plan(3_000), 400_000, 3_000, 28, 1)
    texts = read_all_texts(())
    accounts = make_accounts(whole, texts)
    return Sent(accounts, Events.join(list(make_events(whole, accounts, texts))), texts)


# --- counts -----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_was_asked_for(world: World) -> None:
    assert world.traffic.num_rows == EXCHANGES == world.truth["counts"]["events"]
    assert len(world.accounts) == ACCOUNTS == len(pc.unique(world.traffic["account_id"]))
    members = [row for row in world.accounts.values() if row["campaign"] == "mill"]
    assert len(members) == MEMBERS and sum(row["n_events"] for row in members) == 8_000
    assert {row["kind"] for row in members} == {"campaign"}
    days = world.day_of()
    assert (days.min(), days.max()) == (0, DAYS - 1)
    assert (np.diff(world.traffic["timestamp"].cast(pa.int64()).to_numpy()) >= 0).all()


def test_the_truth_of_accounts_is_the_sum_of_the_truth_of_events(world: World) -> None:
    sums: dict[str, Counter[str]] = {"n_events": Counter(), "n_extraction": Counter(), "n_retries": Counter()}
    seen: dict[str, list[datetime]] = {}
    columns = (world.traffic[name].to_pylist() for name in ("account_id", "timestamp", "family", "retry"))
    for account, at, family, retry in zip(*columns, strict=True):
        sums["n_events"][account] += 1
        sums["n_extraction"][account] += family is not None
        sums["n_retries"][account] += retry
        seen.setdefault(account, []).append(at)
    for account, row in world.accounts.items():
        assert {name: row[name] for name in sums} == {name: counts[account] for name, counts in sums.items()}
        assert row["share"] == row["n_extraction"] / row["n_events"]
        assert (row["first_seen"], row["last_seen"]) == (seen[account][0], seen[account][-1])
        assert (row["campaign"] is None) == (row["extraction_from"] is None)
        assert row["campaign"] is not None or row["n_extraction"] == 0


def test_the_truth_of_the_campaign_is_that_of_its_events(world: World) -> None:
    facts = world.truth["campaigns"][0]
    families = Counter(family for family in world.traffic["family"].to_pylist() if family is not None)
    assert facts["families"] == dict(families) and set(families) == {*BEFORE, *AFTER}
    assert facts["exchanges"] == 8_000 and facts["extraction"] == families.total()
    assert world.truth["counts"]["extraction"] == families.total()
    assert facts["capabilities"] == ["coding", "long_horizon_planning"]
    times = world.traffic.filter(pc.is_valid(world.traffic["family"]))["timestamp"].to_pylist()
    assert facts["first_extraction"] == times[0].replace(microsecond=0).isoformat()
    assert facts["last_extraction"] == times[-1].replace(microsecond=0).isoformat()


def test_the_share_of_extraction_is_that_of_the_scenario(world: World) -> None:
    members = [row for row in world.accounts.values() if row["campaign"] is not None]
    rotating = [row for row in members if row["extraction_from"] < START + timedelta(days=TURN_DAY)]
    n, bad = (sum(row[name] for row in rotating) for name in ("n_events", "n_extraction"))
    assert bad / n == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / n) ** 0.5)


def test_volumes_are_heavy_tailed(sent: Sent) -> None:
    volume = np.sort(sent.accounts.volume)[::-1]
    assert volume[: len(volume) // 10].sum() > 0.6 * volume.sum()
    assert np.median(volume) < 0.4 * volume.mean() and volume.min() >= 1


def test_every_kind_is_there(world: World) -> None:
    from training.simulate_kinds import ALL_KINDS

    kinds = Counter(row["kind"] for row in world.accounts.values())
    assert set(kinds) == {kind.name for kind in ALL_KINDS}
    assert kinds["person"] == pytest.approx(0.47 * (ACCOUNTS - MEMBERS), abs=3)
    assert sum(kind.share for kind in ALL_KINDS) == pytest.approx(1.0)


# --- rhythms ----------------------------------------------------------------------------------------------------------


def test_people_sleep_and_jobs_do_not(sent: Sent) -> None:
    hour = sent.local_time() // 3_600_000_000 % 24
    night = {kind: np.mean(hour[sent.of_kind(kind)] < 6) for kind in ("person", "one_interest", "job", "campaign")}
    assert night["person"] < 0.05 and night["one_interest"] < 0.05
    assert night["job"] == pytest.approx(0.25, abs=0.01) and night["campaign"] == pytest.approx(0.25, abs=0.015)
    nightly = hour[sent.of_kind("nightly_job")]
    assert np.mean((nightly >= 1) & (nightly <= 3)) > 0.99
    office = hour[sent.of_kind("agent_user")]
    assert np.mean((office >= 8) & (office < 19)) > 0.9


def test_an_account_with_one_request_sends_it_on_any_day(sent: Sent) -> None:
    single = (sent.accounts.volume == 1) & (sent.accounts.first_day == 0)
    events = sent.events.time[single[sent.events.account]]
    days = events // 86_400_000_000 - sent.events.time.min() // 86_400_000_000
    assert len(days) == single.sum() > 50
    assert days.mean() == pytest.approx(13.5, abs=4 * 8.1 / len(days) ** 0.5)


def test_offices_close_at_weekends(sent: Sent) -> None:
    weekday = (sent.events.time // 86_400_000_000 + 3) % 7  # 1 January 1970 was a Thursday
    weekend = {kind: np.mean(weekday[sent.of_kind(kind)] >= 5) for kind in ("agent_user", "person", "job")}
    assert weekend["agent_user"] < 0.06
    assert 0.18 < weekend["person"] < 0.27
    assert weekend["job"] == pytest.approx(2 / 7, abs=0.02)


def test_people_write_in_sittings(sent: Sent) -> None:
    people = np.flatnonzero(sent.of_kind("heavy_coder"))
    order = people[np.lexsort((sent.events.time[people], sent.events.account[people]))]
    same = np.diff(sent.events.account[order]) == 0
    minutes = np.diff(sent.events.time[order])[same] / 60e6
    assert np.mean(minutes < 10) > 0.5


def test_an_evaluation_sends_its_list_again_and_a_prompt_engineer_one_text_over_and_over(sent: Sent) -> None:
    for kind, most in (("evaluation", 400), ("prompt_engineer", None)):
        rows = np.flatnonzero(sent.of_kind(kind))
        account = np.bincount(sent.events.account[rows]).argmax()
        own = rows[sent.events.account[rows] == account]
        wordings = np.unique(sent.events.wording[own])
        if most is not None:
            assert len(own) > len(wordings) == most
        else:
            assert len(own) / len(wordings) == pytest.approx(12, rel=0.05)


# --- retries and conversations ----------------------------------------------------------------------------------------


def test_retries_are_the_same_event_some_seconds_later(world: World) -> None:
    rows = world.traffic.to_pylist()
    first: dict[str, dict[str, Any]] = {}
    n_retries = 0
    for row in rows:
        if not row["retry"]:
            assert row["event_id"] not in first
            first[row["event_id"]] = row
        else:
            n_retries += 1
            before = first[row["event_id"]]
            assert {**row, "timestamp": 0, "retry": 0} == {**before, "timestamp": 0, "retry": 0}
            assert timedelta(0) <= row["timestamp"] - before["timestamp"] <= timedelta(seconds=21)
    assert world.truth["counts"]["retries"] == n_retries == len(rows) - len(first)
    assert n_retries / len(rows) == pytest.approx(0.0035, abs=0.0012)


def test_conversations_grow_by_turns(world: World) -> None:
    """Each list of messages is an earlier request of the account, a reply, and one more user turn."""
    n_grown = 0
    seen: dict[str, set[tuple[str, ...]]] = {}
    for row in world.traffic.filter(pc.invert(world.traffic["retry"])).to_pylist():
        assert (row["prompt"] is None) != (row["messages"] is None)
        messages = row["messages"] if row["messages"] is not None else [{"role": "user", "content": row["prompt"]}]
        roles, contents = ([message[key] for message in messages] for key in ("role", "content"))
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] and all(contents)
        earlier = seen.setdefault(row["account_id"], set())
        assert len(contents) == 1 or tuple(contents[:-2]) in earlier
        earlier.add(tuple(contents))
        n_grown += len(contents) > 1
    assert n_grown > 1_000


# --- campaigns --------------------------------------------------------------------------------------------------------


def test_accounts_that_retire_are_replaced(world: World) -> None:
    from training.simulate import read_all_texts
    from training.simulate_accounts import make_accounts

    accounts = make_accounts(scenario(), read_all_texts(()))
    rotating = np.flatnonzero((accounts.campaign == 0) & (accounts.turn_day == 0))
    first, end = accounts.first_day[rotating], accounts.end_day[rotating]
    assert len(rotating) == MEMBERS - TURNING and (first < end).all()
    alive = [int(((first <= day) & (day < end)).sum()) for day in range(DAYS)]
    assert alive == [0] * FIRST_DAY + [LIVE] * (DAYS - FIRST_DAY)
    assert len(set(first.tolist())) > 5  # not all on one day
    ids = np.array(accounts.ids.to_pylist())
    sent_on = world.day_of()
    account = np.array(world.traffic["account_id"].to_pylist())
    for place, born, gone in zip(rotating, first, end, strict=True):
        days = sent_on[account == ids[place]]
        assert born <= days.min() and days.max() < gone


@pytest.mark.parametrize(("n", "live", "days"), [(7, 3, 5), (12, 12, 4), (15, 3, 5), (1, 1, 9), (30, 7, 31)])
def test_any_rotation_keeps_as_many_live(n: int, live: int, days: int) -> None:
    from training.simulate_accounts import _turns
    from training.simulate_draws import event_keys

    rotation = campaign(accounts=n, live=live, first_day=1)
    for seed in range(20):
        first, end = _turns(rotation, event_keys(seed, np.arange(n), np.arange(n)), 1 + days)
        assert (first < end).all()
        assert [int(((first <= day) & (day < end)).sum()) for day in range(1, 1 + days)] == [live] * days


def test_the_template_changes_at_midnight_of_its_day(world: World) -> None:
    days, family = world.day_of(), np.array(world.traffic["family"].to_pylist())
    assert days[np.isin(family, AFTER)].min() == CHANGE_DAY
    assert days[np.isin(family, BEFORE)].max() == CHANGE_DAY - 1
    change = (START + timedelta(days=CHANGE_DAY)).isoformat()
    assert world.truth["campaigns"][0]["template_change"] == change


def test_accounts_turn_bad_late(world: World) -> None:
    turned = START + timedelta(days=TURN_DAY)
    late = {row["account_id"]: row for row in world.accounts.values() if row["extraction_from"] == turned}
    assert len(late) == TURNING
    own = world.traffic.filter(pc.is_in(world.traffic["account_id"], pa.array(list(late))))
    before = own.filter(pc.less(own["timestamp"], pa.scalar(turned, own["timestamp"].type)))
    after = own.filter(pc.greater_equal(own["timestamp"], pa.scalar(turned, own["timestamp"].type)))
    assert before.num_rows > 300 and before["family"].null_count == before.num_rows
    bad = 1 - after["family"].null_count / after.num_rows
    assert bad == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / after.num_rows) ** 0.5)


def test_a_ramp_rises_by_days() -> None:
    from training.simulate import read_all_texts
    from training.simulate_accounts import make_accounts
    from training.simulate_events import Events, make_events

    ramped = campaign(live=None, turning=0, turn_day=None, exchanges=30_000)
    whole, texts = scenario(ramped), read_all_texts(())
    accounts = make_accounts(whole, texts)
    events = Events.join(list(make_events(whole, accounts, texts)))
    days = (events.time // 86_400_000_000)[accounts.campaign[events.account] == 0]
    counts = np.bincount(days - days.min())
    full = counts[RAMP:].mean()
    assert counts[:RAMP] / full == pytest.approx([0.25, 0.5, 0.75, 1], abs=0.15)


def test_extraction_prompts_are_made_of_their_template_and_no_others_are(world: World) -> None:
    from training.sample_texts import SLOT, read_families

    fixed = {family: max(SLOT.split(text)[::2], key=len) for family, text in read_families(data_dir()).items()}
    for row in world.traffic.to_pylist():
        text = row["prompt"] if row["prompt"] is not None else row["messages"][-1]["content"]
        found = [family for family, words in fixed.items() if words in text]
        assert found == [family for family in [row["family"]] if family in fixed]


def test_no_slot_is_left_open(world: World) -> None:
    texts = set(world.traffic["prompt"].to_pylist()) | set(world.traffic["system"].to_pylist())
    slots = re.compile(r"\{(company|people|long|code|number|place|season|few|day|relative|snippet|task|fresh)\}")
    assert [text for text in texts if text is not None and slots.search(text)] == []


def test_most_prompts_of_an_account_are_its_own(world: World) -> None:
    """Units are distinct prompts, so people and campaigns must not send a handful over and over."""
    benign = {name for name, row in world.accounts.items() if row["kind"] in ("person", "heavy_coder", "campaign")}
    rows = world.traffic.filter(pc.and_(pc.is_valid(world.traffic["prompt"]), pc.invert(world.traffic["retry"])))
    rows = rows.filter(pc.is_in(rows["account_id"], pa.array(sorted(benign))))
    distinct = rows.group_by(["account_id", "prompt"]).aggregate([]).num_rows
    assert distinct / rows.num_rows > 0.9


# --- same seed, same bytes --------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_seed_says_every_byte(world: World, tmp_path: Path) -> None:
    from training.simulate import simulate

    simulate(tmp_path / "again", scenario())
    assert files_of(tmp_path / "again") == files_of(world.folder)
    simulate(tmp_path / "other", scenario(seed=8))
    assert read_world(tmp_path / "other").traffic["prompt"].to_pylist() != world.traffic["prompt"].to_pylist()


def test_the_size_of_parts_changes_nothing_in_them(world: World, tmp_path: Path) -> None:
    from training.simulate import simulate

    simulate(tmp_path / "cut", scenario(), part=1_717)
    again = read_world(tmp_path / "cut")
    assert len(list((tmp_path / "cut" / "traffic").iterdir())) == -(-EXCHANGES // 1_717)
    assert again.traffic.combine_chunks() == world.traffic.combine_chunks()
    assert again.truth == world.truth and again.accounts == world.accounts


def test_a_day_in_slices_has_as_many_events(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import simulate_events
    from training.simulate_scenario import make_scenario, simple_plan

    monkeypatch.setattr(simulate_events, "SLICE_EVENTS", 2_000)
    whole = make_scenario(simple_plan(3_000), 400_000, 3_000, 28, 1)
    pieces = list(simulate_events.make_events(whole, sent.accounts, sent.texts))
    assert len(pieces) > 28 * 5 and max(map(len, pieces)) < 5_000
    events = simulate_events.Events.join(pieces)
    assert (np.diff(events.time) >= 0).all()
    for number in (0, 1):
        same = [np.bincount(e.account[e.ordinal % 2 == number], minlength=3_000) for e in (events, sent.events)]
        assert np.abs(same[0] - same[1]).sum() < 0.01 * len(events)  # retries, which never cross a slice, apart
    assert np.array_equal(np.bincount(events.account), np.bincount(sent.events.account))


def test_draws_are_those_of_splitmix64() -> None:
    from training.simulate_draws import below, draws, event_keys, units

    # First outputs of the reference implementation for seed 0: state after one and two increments, mixed.
    zero = np.zeros(1, np.uint64)
    assert draws(zero, 1)[0] == 0xE220A8397B1DCDAF and draws(zero, 2)[0] == 0x6E789E6AA1B965F4
    keys = event_keys(5, np.repeat(np.arange(300), 300), np.tile(np.arange(300), 300))
    assert len(np.unique(keys)) == 90_000
    assert units(keys, 3).mean() == pytest.approx(0.5, abs=0.005)
    assert np.bincount(below(keys, 4, 7)) == pytest.approx(np.full(7, 90_000 / 7), rel=0.04)
