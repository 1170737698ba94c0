"""What is in a bundle, in words: `probewatch bundle show`. Pure functions on a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from classifier.bundle import Bundle
from classifier.types import TARGETS
from service.report_words import percent, title_of


def verified_line(bundle: Bundle) -> str:
    """That a bundle is good: it was opened, so every digest was checked."""
    manifest = bundle.manifest
    size = sum(entry.size for entry in manifest.files.values())
    return f"{bundle.path}: bundle {manifest.bundle_id} is intact ({len(manifest.files)} files, {size:,} bytes)"


def bundle_lines(bundle: Bundle) -> Iterator[str]:
    """A manifest for reading, section by section."""
    manifest, facts = bundle.manifest, bundle.manifest.facts
    yield f"bundle {manifest.bundle_id} (format {manifest.format_version}) in {bundle.path}"
    yield from _section(
        "files", {name: f"{e.size:>12,} bytes  sha256 {e.sha256[:16]}..." for name, e in manifest.files.items()}
    )
    yield from _section(
        "least probability to be named", {title_of(name): value for name, value in facts.decisions.thresholds.items()}
    )
    means = {f"mean intent, {title_of(name)}": value for name, value in zip(TARGETS, facts.baselines.m2, strict=True)}
    yield from _section("baselines, at most", {"known template": facts.baselines.m1, **means})
    yield from _section(
        "honest conduct beyond the baselines",
        {
            s.stratum: f"{s.k:,} of {s.n:,} checked, so at most {percent(s.epsilon, up=True)}"
            for s in facts.certification
        },
    )
    for name, content in (
        ("measured quality", facts.quality),
        ("made from", facts.provenance),
        ("made with", facts.versions),
    ):
        yield from _section(name, content)


def _section(heading: str, content: Mapping[str, Any], indent: int = 2) -> Iterator[str]:
    yield f"{' ' * (indent - 2)}{heading}:"
    width = max((len(name) for name in content), default=0) + 2
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _section(str(name), value, indent + 2)
        else:
            yield f"{' ' * indent}{name:<{width}}{value if isinstance(value, str) else json.dumps(value)}"
