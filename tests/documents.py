"""Documents as the tests read them: fenced blocks, the commands in them and what these are shown to print, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"```(\w*) ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SETTING = re.compile(r"\w+=")
_SHELL = frozenset({"|", ">", ">>", "<", "&&", "||", ";", "&"})


class Block(NamedTuple):
    """A fenced block: its language, the word after it (`run`: may be executed on the sample), and its lines."""

    language: str
    mark: str
    text: str


class Shown(NamedTuple):
    """A command line, and what it is shown to print; empty where nothing is shown."""

    line: str
    output: str


def documents() -> list[Path]:
    """Everything that is written to be read, but for the changelog, which names what is gone."""
    below = (
        path for top in ("classifier", "training", "service", "tests", "data") for path in ROOT.glob(f"{top}/**/*.md")
    )
    return [ROOT / "README.md", *sorted(below)]


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in _FENCE.findall(text)]


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Targets of links that lead to no other site."""
    return [target for target in _LINK.findall(prose(text)) if "://" not in target]


def anchors(text: str) -> set[str]:
    """Where links within a document may lead."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(block: Block) -> list[Shown]:
    """The command lines of a block: after `$ `, or, where none is, every line."""
    text = block.text.replace("\\\n", " ")
    if block.language not in ("console", "sh", "bash", ""):
        return []
    if not re.search(r"^\$ ", text, re.MULTILINE):
        return [Shown(line, "") for line in text.splitlines() if block.language != "text"]
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [Shown(*part.rstrip("\n").partition("\n")[::2]) for part in parts]


def words_of(line: str, program: str) -> Iterator[list[str]]:
    """The arguments that a command line gives a program, each time that it calls it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    call: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _SHELL:
            call.append(word)
            continue
        while call and _SETTING.match(call[0]):
            call.pop(0)
        if call and call[0].rpartition("/")[2] == program:
            yield call[1:]
        call = []
