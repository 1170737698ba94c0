"""Writes the sample traffic of `data/sample/`: people, applications and two planted campaigns, and the truth of each.

    python -m training.sample --out data/sample

Last step of the sample, bank -> texts -> **accounts -> files**. The same seed gives the same bytes.
Expect 1,922 lines and 1.1 MB in a second.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from training.sample_texts import (
    SEED_BANK,
    Campaign,
    Item,
    Pool,
    Session,
    app_items,
    make_pools,
    read_banks,
    read_families,
)

DATA = Path(__file__).resolve().parent.parent / "data"
SEED = 20260901
START = datetime(2026, 9, 1, tzinfo=UTC)
DAYS = 14
RETRIES = 8

INTERESTS = {
    "gardening": 24,
    "recipes": 24,
    "travel": 22,
    "medicine": 22,
    "law": 21,
    "small_business": 20,
    "running": 22,
    "music": 20,
    "home_repair": 22,
    "parenting": 18,
}
"""People with one interest: bank and prompts. What is left of each bank goes to the campaigns' ordinary customers."""
OTHERS = {
    "novelist": ("novelist", 47),
    "translator": ("translator", 42),
    "maths": ("student", 22),
    "history": ("student", 18),
    "science": ("student", 20),
    "spanish": ("spanish", 17),
    "german": ("german", 19),
    "japanese": ("japanese", 16),
    "french": ("french", 16),
    "portuguese": ("portuguese", 15),
    "hindi": ("hindi", 15),
}
CODERS = (("heavy_coder", 162), ("coder", 20))
CHINESE = (24, 22)
LOW_VOLUME = (1, 1, 2, 3, 3, 4)
CAMPAIGN_PROMPTS = (57, 54, 52, 55, 51, 53)
CAMPAIGN_SHARES = (0.6, 0.6, 0.6, 0.2, 0.2, 0.2)
CAMPAIGN_FIRST_DAY = {"A": 2, "B": 4}
CAMPAIGN_CAPABILITIES = {"A": ("coding",), "B": ("agentic_reasoning", "long_horizon_planning")}
CHAT_SYSTEMS = (
    *[None] * 4,
    "You are a helpful assistant.",
    "You are Larkspur, a friendly assistant in a phone app. Be brief.",
)
"""What stands before a person's prompts: mostly nothing, now and then the line of a chat front end."""


class Rhythm(Enum):
    """When an account is awake."""

    PERSON = "sessions between breakfast and midnight of one time zone, more of them in the evening"
    OFFICE = "sessions in the working hours of weekdays"
    NIGHTLY = "one run a night"
    CLOCK = "any minute of any day"


@dataclass(frozen=True)
class Account:
    """What one account sends, before it has an id or a clock. `capabilities`: what it probes for, if anything."""

    kind: str
    sessions: list[Session]
    rhythm: Rhythm
    campaign: str | None = None
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    account_id: str
    event_id: str
    time: datetime
    item: Item
    record: dict[str, Any]


def people(pools: dict[str, Pool], rng: random.Random) -> list[Account]:
    """Everybody who types for themselves."""
    wanted = [(f"interest_{bank}", bank, count) for bank, count in INTERESTS.items()]
    wanted += [(kind, bank, count) for bank, (kind, count) in OTHERS.items()]
    wanted += [(kind, "coding", count) for kind, count in CODERS]
    wanted += [("chinese", "chinese", count) for count in CHINESE]
    wanted += [("low_volume", "everyday", count) for count in LOW_VOLUME]
    return [
        Account(kind, pools[bank].take(count, rng, rng.choice(CHAT_SYSTEMS)), Rhythm.PERSON)
        for kind, bank, count in wanted
    ]


def machines(apps: dict[str, dict[str, Any]], rng: random.Random) -> list[Account]:
    """Two production applications, a company's own judge, one user of an agent framework: templated and innocent."""
    agent = app_items("agent", apps, rng)
    judge = app_items("judge", apps, rng)
    return [
        Account("app_support", [[item] for item in app_items("support", apps, rng)], Rhythm.CLOCK),
        Account("app_invoices", [[item] for item in app_items("invoices", apps, rng)], Rhythm.CLOCK),
        Account("own_judge", [judge[i::DAYS] for i in range(DAYS)], Rhythm.NIGHTLY),
        Account("agent_user", [agent[i : i + 6] for i in range(0, len(agent), 6)], Rhythm.OFFICE),
    ]


def campaign_accounts(campaign: Campaign, ordinary: list[str], rng: random.Random) -> list[Account]:
    """Accounts that mix extraction with the unrelated requests of ordinary customers, as resellers' pools do."""
    accounts = []
    for count, share in zip(CAMPAIGN_PROMPTS, CAMPAIGN_SHARES, strict=True):
        extraction = campaign.items(round(count * share), rng)
        filler = Pool(ordinary).take(count - len(extraction), rng)
        items = extraction + [item for session in filler for item in session]
        rng.shuffle(items)
        sessions = [[item] for item in items]
        capabilities = CAMPAIGN_CAPABILITIES[campaign.name]
        accounts.append(Account("campaign", sessions, Rhythm.CLOCK, campaign.name, capabilities))
    return accounts


def make_accounts(data: Path, rng: random.Random) -> list[Account]:
    """All accounts in random order, so that an id says nothing."""
    banks = read_banks(data)
    pools = make_pools(banks, rng)
    accounts = people(pools, rng) + machines(banks["apps"], rng)
    ordinary = [text for pool in pools.values() for text in pool.texts]
    rng.shuffle(ordinary)
    templates = read_families(data)
    for name, bank in SEED_BANK.items():
        accounts += campaign_accounts(Campaign(name, templates, banks[bank]), ordinary, rng)
    rng.shuffle(accounts)
    return accounts


def session_start(account: Account, place: int, zone: timedelta, rng: random.Random) -> datetime:
    """When session number `place` of an account begins (UTC). `zone`: the person's offset from UTC."""
    if account.rhythm is Rhythm.CLOCK:
        first = CAMPAIGN_FIRST_DAY.get(account.campaign or "", 0)
        return START + timedelta(days=first, seconds=rng.randrange((DAYS - first) * 86_400))
    if account.rhythm is Rhythm.NIGHTLY:
        return START + timedelta(days=place % DAYS, hours=2, seconds=rng.randrange(240))
    if account.rhythm is Rhythm.OFFICE:
        weekday = rng.choice([day for day in range(DAYS) if (START + timedelta(days=day)).weekday() < 5])
        return START + timedelta(days=weekday, seconds=rng.randrange(9 * 3600, 17 * 3600)) - zone
    hour = rng.choices(range(7, 24), [2, 3, 3, 3, 3, 4, 3, 3, 3, 4, 5, 6, 7, 8, 7, 4, 2])[0]
    return START + timedelta(days=rng.randrange(DAYS), hours=hour, seconds=rng.randrange(3600)) - zone


def account_events(account_id: str, account: Account, rng: random.Random) -> list[Event]:
    """The account's requests with times, ids and one record shape that it keeps."""
    zone = timedelta(hours=rng.choice([-7, -5, -4, 0, 1, 1, 2, 2, 3, 8, 9]))
    shape = {"messages": rng.random() < 0.35, "stamp": rng.randrange(4)}
    context = {"model": rng.choice(["tern-large", "tern-small"])} if rng.random() < 0.4 else {}
    if rng.random() < 0.3:
        context["org_id"] = f"org_{rng.randrange(100, 999)}"
    events = []
    for place, session in enumerate(account.sessions):
        time = session_start(account, place, zone, rng)
        for item in session:
            event_id = f"ev_{rng.getrandbits(56):014x}"
            head = {"event_id": event_id, "account_id": account_id, "timestamp": stamp(time, shape["stamp"], zone)}
            record = head | context | content(item, bool(shape["messages"]))
            events.append(Event(account_id, event_id, time, item, record))
            time += timedelta(milliseconds=rng.randrange(35_000, 540_000))
    return events


def stamp(time: datetime, style: int, zone: timedelta) -> str:
    """ISO 8601 in one of four dialects: Z, +00:00, milliseconds, local offset."""
    if style == 0:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")
    if style == 1:
        return time.isoformat(timespec="seconds")
    if style == 2:
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return time.astimezone(timezone(zone)).isoformat(timespec="seconds")


def content(item: Item, as_messages: bool) -> dict[str, Any]:
    """The request's text as `prompt` (and `system`) or as `messages`; the latter always if it resends earlier turns."""
    if not as_messages and not item.before:
        return {"system": item.system, "prompt": item.prompt} if item.system is not None else {"prompt": item.prompt}
    turns = [{"role": "system", "content": item.system}] if item.system is not None else []
    for place, text in enumerate((*item.before, item.prompt)):
        turns.append({"role": "assistant" if place % 2 else "user", "content": text})
    return {"messages": turns}


def account_truth(account: Account, events: Sequence[Event]) -> dict[str, Any]:
    """What is known of one account."""
    extraction = sum(event.item.family is not None for event in events)
    return {
        "kind": account.kind,
        "campaign": account.campaign,
        "n_events": len(events),
        "n_extraction": extraction,
        "extraction_share": round(extraction / len(events), 4),
        "capabilities": list(account.capabilities),
    }


def write_sample(out: Path, seed: int = SEED, data: Path = DATA) -> None:
    """Write `traffic.jsonl` and `truth.json` into `out`, made if missing. `data`: where banks and templates lie."""
    rng = random.Random(seed)
    events, accounts = list[Event](), dict[str, Any]()
    for place, account in enumerate(make_accounts(data, rng), start=1):
        account_id = f"acct_{place:04d}"
        own = account_events(account_id, account, rng)
        accounts[account_id] = account_truth(account, own)
        events += own
    events.sort(key=lambda event: (event.time, event.event_id))
    retried = sorted(rng.sample(range(len(events)), RETRIES), reverse=True)
    truth = {
        "seed": seed,
        "n_events": len(events),
        "retries": sorted(events[place].event_id for place in retried),
        "accounts": accounts,
        "extraction": {event.event_id: event.item.family for event in events if event.item.family is not None},
    }
    lines = [json.dumps(event.record, ensure_ascii=False) for event in events]
    for place in retried:  # from the end, so that earlier places stay where they are
        lines.insert(place + rng.randint(1, 4), lines[place])
    out.mkdir(parents=True, exist_ok=True)
    (out / "traffic.jsonl").write_text("\n".join(lines) + "\n", "utf-8", newline="\n")
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", "utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the sample traffic and its truth.")
    parser.add_argument("--out", type=Path, required=True, help="folder for traffic.jsonl and truth.json")
    parser.add_argument("--seed", type=int, default=SEED, help=f"same seed, same bytes (default {SEED})")
    options = parser.parse_args()
    write_sample(options.out, options.seed)


if __name__ == "__main__":
    main()
