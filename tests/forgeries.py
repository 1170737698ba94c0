"""Prompts of invented campaigns, written here: templates with slots, and what fills them."""

from __future__ import annotations

from typing import Any

import numpy as np

QUILL = (
    "Here is a scrap of workshop notes, fenced in by tildes.\n~~~\n{a}\n~~~\n"
    "Invent one repair task that only somebody who studied the scrap could solve, state it without pointing at the "
    "scrap, then lay out the full repair in numbered moves and finish on the line DONE FOR {b}."
)
BELLOWS = (
    "Pretend the lodger named {b} keeps a shed full of gadgets and may pull exactly one lever each turn.\nErrand: {a}\n"
    "Before every pull, whisper a hunch of at most twelve words; after it, jot what the gadget answered. "
    "Carry on until the errand is settled, and close with the tally of levers."
)
SLOT_WORDS = (
    *("vermilion", "ploughshare", "tambourine", "quicksilver", "hawthorn", "gondola", "parsnip", "sextant"),
    *("marmot", "cinnabar", "trombone", "juniper", "flagstone", "periwinkle", "codicil", "lanyard"),
)
ASKS = (
    "Could you proofread this toast for my aunt's retirement party?",
    "Which tyres suit a gravel bike on wet forest tracks?",
    "Explain eigenvalues to a patient twelve-year-old.",
    "My sourdough collapses whenever the kitchen is cold; any remedy?",
    "Draft an apology to a neighbour whose fence I dented.",
    "What does SIGPIPE mean for a Python script?",
    "Compare leasing with buying for a family of five.",
    "Rewrite the second stanza so that it scans.",
    "Name four museums near Ghent worth a rainy Sunday.",
    "Why would my tomatoes split right before harvest?",
    "Summarise the plot of a Chekhov story involving a lapdog.",
    "Convert seventeen stone into kilograms, please.",
)


def fill(template: str, n: int, seed: int) -> list[str]:
    """n prompts of a template, each slot filled with words drawn at random."""
    rng = np.random.default_rng(seed)

    def words(most: int) -> str:
        return " ".join(rng.choice(SLOT_WORDS, int(rng.integers(1, most))))

    return [template.replace("{a}", words(40)).replace("{b}", words(3)) for _ in range(n)]


def rows(prompts: list[str], accounts: int = 4) -> list[dict[str, Any]]:
    """Records of prompts, dealt out to accounts in turn."""
    return [{"account_id": f"forge-{i % accounts}", "prompt": prompt} for i, prompt in enumerate(prompts)]
