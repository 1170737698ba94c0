"""Colours of what prompts ask for, as custom properties of the style sheet: one for each target, light and dark."""

from __future__ import annotations

from classifier.types import CAPABILITIES, OTHER, TARGETS

LIGHT = ("#2a67b1", "#0d7d6e", "#9444a8", "#a34a00")
DARK = ("#72aaf0", "#46c2ac", "#d193e2", "#f0a060")
OTHERS = ("#85878b", "#90949b")


def target_css() -> str:
    """Rules that give each target its `--mark`, in the order of the taxonomy."""
    marks = " ".join(f".{name} {{ --mark: var(--{name}); }}" for name in TARGETS)
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {_properties(DARK, OTHERS[1])} }} }}"
    return f":root {{ {_properties(LIGHT, OTHERS[0])} }}\n{dark}\n{marks}\n"


def _properties(colours: tuple[str, ...], other: str) -> str:
    named = dict(zip(CAPABILITIES, colours, strict=False)) | {OTHER: other}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())
