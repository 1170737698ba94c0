"""From the authored banks to what accounts type: first step of the sample, bank -> **texts** -> accounts -> files.

Banks are `data/sample/bank/*.toml`; the extraction templates are `data/templates/own.toml`. `{name}` is a slot.
"""

from __future__ import annotations

import math
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SLOT = re.compile(r"\{([a-z_]+)\}")
FILLS = 3
"""How many events a prompt with slots may give: enough for variety, too few for a reader to see a template."""

FAMILY_WEIGHTS: dict[str, dict[str, int]] = {
    "A": {"pw_seeded_code": 3, "pw_review_bug": 3, "pw_task_evolution": 3, "pw_pair_grader": 1},
    "B": {
        "pw_tool_rollout": 3,
        "pw_agent_task": 3,
        "pw_plan_problem": 3,
        "pw_plan_critique": 2,
        "pw_trace_tags": 2,
        "pw_persona_sweep": 1,
    },
}
SEED_BANK = {"A": "seeds_coding", "B": "seeds_agentic"}
SEED_GROUP = {
    "pw_seeded_code": "seed",
    "pw_review_bug": "seed",
    "pw_pair_grader": "contest",
    "pw_plan_critique": "apprentice",
}
"""Families whose slots must be drawn together, from one entry of a group."""


@dataclass(frozen=True)
class Item:
    """One request. `before`: earlier turns it resends, user first, alternating. `family`: its extraction template."""

    prompt: str
    system: str | None = None
    before: tuple[str, ...] = ()
    family: str | None = None


Session = list[Item]
"""Requests that follow one another within minutes."""


def read_banks(data: Path) -> dict[str, dict[str, Any]]:
    """Every bank under `data/sample/bank` by file stem."""
    paths = sorted((data / "sample" / "bank").glob("*.toml"))
    return {path.stem: tomllib.loads(path.read_text("utf-8")) for path in paths}


def read_families(data: Path) -> dict[str, str]:
    """Template text by family id."""
    parsed = tomllib.loads((data / "templates" / "own.toml").read_text("utf-8"))
    return {family["family"]: family["text"].strip() for family in parsed["family"]}


def fill(text: str, slots: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """`text` with a random choice in every slot of `slots`, also in slots inside the choice; other braces stay."""

    def choose(match: re.Match[str]) -> str:
        name = match[1]
        return fill(rng.choice(slots[name]), slots, rng) if name in slots else match[0]

    return SLOT.sub(choose, text)


def variants(texts: Sequence[str], slots: Mapping[str, Sequence[str]], rng: random.Random) -> list[str]:
    """The texts, those with slots filled in `FILLS` distinct ways, or in all ways where there are fewer."""
    made: dict[str, None] = {}
    for text in texts:
        ways = math.prod(len(slots[name]) for name in set(SLOT.findall(text)) & set(slots))
        filled: dict[str, None] = {}
        while len(filled) < min(FILLS, ways):
            filled[fill(text, slots, rng)] = None
        made |= filled
    return list(made)


@dataclass
class Pool:
    """Texts and ready-made sessions of one bank. Each is handed out once, so no two accounts share a prompt."""

    texts: list[str]
    sessions: list[Session] = field(default_factory=list)

    def take(self, count: int, rng: random.Random, system: str | None = None) -> list[Session]:
        """All sessions of the pool and as many single prompts, in groups of 1 to 6, as make `count` requests in all."""
        taken = [[replace(item, system=system) for item in session] for session in self.sessions]
        self.sessions = []
        singles = count - sum(map(len, taken))
        if not 0 <= singles <= len(self.texts):
            raise ValueError(f"the pool can give {len(self.texts)} prompts, {singles} wanted; author more")
        items = [Item(text, system) for text in self.texts[:singles]]
        del self.texts[:singles]
        while items:
            size = rng.randint(1, 6)
            taken.append(items[:size])
            del items[:size]
        return taken


def make_pools(banks: Mapping[str, dict[str, Any]], rng: random.Random) -> dict[str, Pool]:
    """One pool for each bank of people's prompts, by bank name; the three school subjects are pools of their own."""
    pools = {}
    for name, bank in banks.items():
        lists = {name: bank["prompts"]} if "prompts" in bank else bank if name == "students" else {}
        for key, texts in lists.items():
            pools[key] = Pool(variants(texts, bank.get("slots", {}), rng))
            rng.shuffle(pools[key].texts)
    pools["coding"].sessions = [file_session(entry, rng) for entry in banks["coding"]["file"]]
    for thread in banks["threads"]["thread"]:
        pools[thread["bank"]].sessions.append(thread_session(thread["turns"]))
    return pools


def file_session(entry: Mapping[str, Any], rng: random.Random) -> Session:
    """Somebody's questions about one piece of code; people paste it before or after the question, some fence it."""
    session = []
    for ask in entry["asks"]:
        code = f"```\n{entry['code'].strip()}\n```" if rng.random() < 0.4 else entry["code"].strip()
        session.append(Item(f"{ask}\n\n{code}" if rng.random() < 0.6 else f"{code}\n\n{ask}"))
    return session


def thread_session(turns: Sequence[str]) -> Session:
    """One request for each user turn (even places), which resends the turns before it."""
    return [Item(turns[i], before=tuple(turns[:i])) for i in range(0, len(turns), 2)]


def app_items(name: str, apps: Mapping[str, dict[str, Any]], rng: random.Random) -> list[Item]:
    """The requests of one application: its fixed system text over varied payloads."""
    app, items = apps[name], []
    shared = apps["support"]["slots"] if name == "judge" else {}
    for _ in range(app["count"]):
        text = fill(app["prompt"], {**shared, **app["slots"], **numbers(rng)}, rng)
        lines = (" ".join(line.split()) for line in text.strip().splitlines())
        items.append(Item("\n".join(lines), app["system"].strip()))
    return items


def numbers(rng: random.Random) -> dict[str, list[str]]:
    """Slots that are not authored: numbers, a September day, and a net amount with its tax and sum."""
    net = rng.randint(2_000, 240_000)
    vat = net * 20 // 100
    return {
        "number": [str(rng.randint(1, 60)) for _ in range(4)],
        "ticket": [f"BC-{rng.randint(20_000, 48_000)}"],
        "document": [f"{rng.randint(100, 99_999)}"],
        "date": [f"{rng.randint(1, 14):02d}.09.2026", f"2026-09-{rng.randint(1, 14):02d}"],
        "net": [f"{net / 100:.2f}"],
        "vat": [f"{vat / 100:.2f}"],
        "gross": [f"{(net + vat) / 100:.2f}"],
    }


@dataclass
class Campaign:
    """Makes the extraction requests of one campaign, never the same twice."""

    name: str
    templates: Mapping[str, str]
    seeds: Mapping[str, Any]
    seen: set[str] = field(default_factory=set)

    def items(self, count: int, rng: random.Random) -> list[Item]:
        """`count` new requests, families drawn by weight, slots by family."""
        weights, made = FAMILY_WEIGHTS[self.name], list[Item]()
        while len(made) < count:
            family = rng.choices(list(weights), list(weights.values()))[0]
            text = fill(self.templates[family], self._slots(family, rng), rng)
            if text not in self.seen:
                self.seen.add(text)
                made.append(Item(text, family=family))
        return made

    def _slots(self, family: str, rng: random.Random) -> dict[str, list[str]]:
        slots = {name: list(values) for name, values in self.seeds.items() if isinstance(values[0], str)}
        slots["count"] = [rng.choice(slots["count"])] if "count" in slots else []
        if family in SEED_GROUP:
            entry = dict(rng.choice(self.seeds[SEED_GROUP[family]]))
            if "answers" in entry:
                entry["left"], entry["right"] = rng.sample(entry.pop("answers"), 2)
            slots |= {name: [value] for name, value in entry.items()}
        return slots
