"""The taxonomy: which capabilities are told apart, in which words. Read from `data/taxonomy.toml`; stands first.

Another capability is another entry there, and a bundle trained on prompts that ask for it: all else takes its columns,
words and colours from here. A bundle of other capabilities is refused.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OTHER = "other"
MOST_CAPABILITIES = 4
"""Levels of a unit are stored in 15 bits, 3 a target, of which `other` is one."""


@dataclass(frozen=True)
class Capability:
    """What a prompt can ask for: its id, and its title within a sentence."""

    id: str
    title: str


def data_dir() -> Path:
    """Folder of the shipped data: beside this module where installed, the repository's `data/` in a checkout."""
    installed = Path(__file__).parent / "_data"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "data"


@cache
def read_taxonomy() -> tuple[Capability, ...]:
    """All capabilities in order, `other` last. Raises ValueError if the file has none, too many, or another order."""
    path = data_dir() / "taxonomy.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8"))["capability"]
    capabilities = tuple(Capability(one["id"], one["title"][:1].lower() + one["title"][1:]) for one in found)
    ids = [one.id for one in capabilities]
    if ids[-1:] != [OTHER] or len(set(ids)) < len(ids) or not 2 <= len(ids) <= 1 + MOST_CAPABILITIES:
        raise ValueError(
            f"{path}: lists {', '.join(ids)}; expected 1 to {MOST_CAPABILITIES} capabilities, then {OTHER}, each once."
        )
    return capabilities
