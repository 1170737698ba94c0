"""The texts that ship, as the simulator takes them: banks, applications and templates of `data/`. Used by `simulate`.

What files given by the user already fill (pools and families) is left as it is.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.sample import CHAT_SYSTEMS, INTERESTS
from training.sample_texts import FAMILY_WEIGHTS, SEED_BANK, SEED_GROUP, fill, numbers, read_banks, variants
from training.simulate_texts import Column, Range, TextsBuilder

LANGUAGES = ("chinese", "spanish", "german", "french", "portuguese", "japanese", "hindi")
PEOPLE_MENUS, BANKS_A_PERSON = 24, 3
PAYLOADS = frozenset({"snippet", "task", "request", "question", "goal", "state", "scenario", "draft", "topic"})
"""Slots whose values are what a prompt is about. A note behind them makes each prompt another one."""
PARAGRAPHS, SENTENCES = 800, (3, 12)
"""How many passages of so many sentences there are, for applications to be fed with and for people who go on."""
WORDINGS = 24
"""In how many ways a turn of speech with slots is filled."""
ISSUED = 60
"""How many amounts and document numbers there are."""

Slots = Mapping[str, Sequence[str]]
Bank = Mapping[str, Any]


def add_sample(builder: TextsBuilder, data: Path) -> list[str]:
    """Fill every pool and family that is still empty; returns what models reply in conversations."""
    rng = random.Random(0)  # which wordings there are is fixed; the seed decides who sends which
    banks = read_banks(data)
    more = tomllib.loads((data / "simulate" / "texts.toml").read_text("utf-8"))
    base = more["slots"] | {"number": [str(number) for number in range(11, 98)]}
    words = {
        name: list(dict.fromkeys(fill(text, base, rng) for text in more[name] for _ in range(WORDINGS)))
        for name in ("leads", "details", "tails", "notes")
    }
    words["long"] = ["".join(rng.sample(words["details"], rng.randint(*SENTENCES))) for _ in range(PARAGRAPHS)]
    given = builder.pool_names()
    _add_people(builder, _Banked(builder, banks, words, rng), given, rng)
    slots = base | _payload_slots(banks, words, rng) | {"fresh": variants(more["fresh"]["fresh"], base, rng)}
    _add_applications(builder, more, slots, given, rng)
    _add_sample_applications(builder, banks["apps"], given, rng)
    if "customers" not in given:
        pools = ("people", "interests", "coders", "students", "authors", "applications")
        builder.menu("customers", [shape for pool in pools for shape in builder.shapes_of(pool)])
    _add_families(builder, data, banks, more["family"], base, words["notes"], rng)
    return [turn for thread in banks["threads"]["thread"] for turn in thread["turns"][1::2]]


class _Banked:
    """Shapes of people's prompts, by bank."""

    def __init__(self, builder: TextsBuilder, banks: Bank, words: Slots, rng: random.Random) -> None:
        self._builder, self._banks, self._rng = builder, banks, rng
        # Every other prompt has none of each: people are brief.
        self._leads, self._details, self._tails, self._long = (
            builder.values([*words[name], *[""] * len(words[name])]) for name in ("leads", "details", "tails", "long")
        )

    def asks(self, bank: str, key: str = "prompts") -> Range:
        found = self._banks[bank]
        return self._builder.values(variants(found[key], found.get("slots", {}), self._rng))

    def english(self, bank: str, key: str = "prompts") -> int:
        """A question with how somebody came to it, around it and behind it."""
        return self._builder.plain(self._leads, self.asks(bank, key), self._details, self._long, self._tails)

    def foreign(self, bank: str) -> int:
        """One or two questions: the turns of speech beside them are English only."""
        asks = variants(self._banks[bank]["prompts"], self._banks[bank].get("slots", {}), self._rng)
        second = [f"\n{ask}" for ask in asks] + [""] * len(asks)
        return self._builder.plain(self._builder.values(asks), self._builder.values(second))

    def files(self) -> int:
        """Questions about a piece of code, which stands before or after the question."""
        files = self._banks["coding"]["file"]
        texts = [f"{ask}\n\n```\n{file['code'].strip()}\n```" for file in files for ask in file["asks"]]
        texts += [f"{file['code'].strip()}\n\n{ask}" for file in files for ask in file["asks"]]
        return self._builder.plain(self._leads, self._builder.values(texts), self._long, self._tails)


def _add_people(builder: TextsBuilder, banked: _Banked, given: frozenset[str], rng: random.Random) -> None:
    interests = {bank: banked.english(bank) for bank in INTERESTS}
    everyday, asks, files = banked.english("everyday"), banked.english("coding"), banked.files()
    languages = [[banked.foreign(bank)] for bank in LANGUAGES]
    chosen = [rng.sample(list(interests.values()), BANKS_A_PERSON) for _ in range(PEOPLE_MENUS)]
    menus: dict[str, list[list[int]]] = {
        "people": [[everyday, *shapes, *[asks] * (place % 3 == 0)] for place, shapes in enumerate(chosen)] + languages,
        "interests": [[shape] for shape in interests.values()],
        "coders": [[asks, files], [files], [asks, asks, files]],
        "students": [[banked.english("students", subject)] for subject in ("maths", "history", "science")],
        "authors": [[banked.english("novelist")], [banked.foreign("translator")]],
    }
    for pool in [pool for pool in menus if pool not in given]:
        for shapes in menus[pool]:
            builder.menu(pool, shapes, CHAT_SYSTEMS)


def _payload_slots(banks: Bank, words: Slots, rng: random.Random) -> dict[str, list[str]]:
    """What applications are fed with: people's questions, sentences, code, and questions of tests."""
    people = [
        text for bank in INTERESTS for text in variants(banks[bank]["prompts"], banks[bank].get("slots", {}), rng)
    ]
    code = [entry["code"].strip() for entry in banks["coding"]["file"]]
    code += [entry["snippet"].strip() for entry in banks["seeds_coding"]["seed"]]
    return {
        "people": people,
        "long": words["long"],
        "code": code,
        "trace_question": banks["seeds_agentic"]["question"],
    }


def _add_applications(
    builder: TextsBuilder, more: Bank, slots: Slots, given: frozenset[str], rng: random.Random
) -> None:
    """The applications of `data/simulate`: each a menu of its own, with the system text of any company."""
    for app in more["application"]:
        if app["pool"] in given:
            continue
        own = {name: variants(values, slots, rng) for name, values in app.get("slots", {}).items()}
        shape = builder.shape(builder.template(app["prompt"].strip(), {**slots, **own}, {}, ["fresh"]))
        systems = [None] if "system" not in app else _systems(app["system"], more["companies"])
        builder.menu(app["pool"], [shape], systems)


def _systems(text: str, companies: Sequence[str]) -> list[str | None]:
    return list(dict.fromkeys(text.strip().replace("{company}", company) for company in companies))


def _add_sample_applications(builder: TextsBuilder, apps: Bank, given: frozenset[str], rng: random.Random) -> None:
    """The four applications of the sample traffic, where those of `data/simulate` are taken as well."""
    issued = [numbers(rng) for _ in range(ISSUED)]
    drawn = {name: list(dict.fromkeys(each[name][0] for each in issued)) for name in ("number", "ticket", "document")}
    amounts = {name: [each[name][0] for each in issued] for name in ("net", "vat", "gross")}
    dates = {"date": sorted({text for each in issued for text in each["date"]})}
    for name, pool in {
        "support": "applications",
        "invoices": "applications",
        "judge": "judges",
        "agent": "agents",
    }.items():
        if pool not in given:
            shared = apps["support"]["slots"] if name == "judge" else {}
            slots = {**shared, **apps[name]["slots"], **drawn, **dates}
            filled = {key: variants(values, slots, rng) for key, values in slots.items()} | amounts
            columns = builder.template(apps[name]["prompt"].strip(), filled, dict.fromkeys(amounts, "amount"))
            builder.menu(pool, [builder.shape(columns)], [apps[name]["system"].strip()])


def _add_families(
    builder: TextsBuilder,
    data: Path,
    banks: Bank,
    unknown: Sequence[Bank],
    base: Slots,
    notes: Sequence[str],
    rng: random.Random,
) -> None:
    """The families of `own.toml`, whose signatures ship, and those of `data/simulate`, which have none."""
    own = tomllib.loads((data / "templates" / "own.toml").read_text("utf-8"))["family"]
    lines = [f"\n{note}" for note in notes]
    bank_of = {family: SEED_BANK[name] for name, weights in FAMILY_WEIGHTS.items() for family in weights}
    seeds = [banks[bank] for bank in SEED_BANK.values()]
    anything = {name: values for bank in seeds for name, values in _lists(bank).items()}
    for family in [*own, *unknown]:
        name = family["family"]
        if builder.has_family(name):
            continue
        bank = banks[bank_of[name]] if name in bank_of else {}
        group = _group(bank[SEED_GROUP[name]]) if name in SEED_GROUP else {}
        slots = {**base, **anything, **_lists(bank), **group}
        filled = {key: values if key in group else variants(values, slots, rng) for key, values in slots.items()}
        columns = builder.template(family["text"].strip(), filled, dict.fromkeys(group, "entry"))
        builder.family(name, family["capability"], _noted(builder, columns, filled, lines))


def _lists(bank: Bank) -> dict[str, list[str]]:
    return {name: values for name, values in bank.items() if isinstance(values[0], str)}


def _group(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Slots that are drawn together, entry by entry; of several answers, each ordered pair is an entry."""
    rows = []
    for entry in entries:
        answers = entry.get("answers", [])
        plain = {name: value.strip() for name, value in entry.items() if name != "answers"}
        pairs = [{"left": a, "right": b} for a in answers for b in answers if a != b]
        rows += [plain | pair for pair in pairs] if pairs else [plain]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _noted(builder: TextsBuilder, columns: Sequence[Column], slots: Slots, lines: Sequence[str]) -> list[Column]:
    """The columns with a note behind the first payload."""
    payloads = {builder.values(slots[name]) for name in PAYLOADS & set(slots)}
    first = next(place for place, column in enumerate(columns) if column.values in payloads)
    note = Column(builder.values(lines), max(column.draw for column in columns) + 1)
    return [*columns[: first + 1], note, *columns[first + 1 :]]
