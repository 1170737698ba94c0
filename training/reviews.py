"""Reviews into a bundle: `probewatch train --reviews`. Beside the stages: what they made, and analysts' conclusions.

    bundle + reviews -> **reviews** -> bundle: the same models and signatures, other tiers and baselines

Prompts are not kept, so reviews cannot teach the models. They move what flags and what is allowed, by the rules of
`classifier.reviews`. The certificate stays: what it says was above narrower baselines, and wider ones do not add to it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from classifier.bundle import MANIFEST, open_bundle, write_manifest
from classifier.errors import InputError
from classifier.reviews import STATES, Reviewed, Revision, from_line, revise
from classifier.templates import FACTS_FILE
from classifier.types import TARGETS, Tier
from training.places import check_replaceable, made


def read_reviews(path: Path) -> list[Reviewed]:
    """Reviews of a file, an account a line.

    Raises:
        InputError: the file cannot be read, is empty, holds what is no review, or an account twice.
    """
    try:
        lines = path.read_bytes().decode().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give what `store reviews` wrote.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not valid UTF-8; give what `store reviews` wrote.") from error
    found = [_parsed(path, number, line) for number, line in enumerate(lines, 1)]
    twice = [name for name, n in Counter(one.account_id for one in found).items() if n > 1]
    if twice or not found:
        held = f"holds {twice[0]} twice" if twice else "holds no review"
        raise InputError(f"{path}: {held}; give what `store reviews` wrote.")
    return found


def _parsed(path: Path, number: int, line: str) -> Reviewed:
    try:
        return from_line(line)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        kind = type(error).__name__
        raise InputError(f"{path}: line {number} is no review ({kind}); give what `store reviews` wrote.") from error


def revise_bundle(source: Path, reviewed: Sequence[Reviewed], out: Path) -> Revision:
    """Write to `out`, which may be `source`, the bundle of `source` as reviews revise it.

    Raises:
        BundleError: `source` is no bundle.
        OutputError: `out` holds what is none.
    """
    check_replaceable(out)
    bundle = open_bundle(source)
    facts = bundle.manifest.facts
    revision = revise(reviewed, facts.baselines)
    with tempfile.TemporaryDirectory(dir=made(out.parent)) as temporary:
        folder = Path(temporary) / "bundle"
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(MANIFEST, ".*"))
        _make_public(folder / FACTS_FILE, revision.made_public)
        told = {**facts.provenance, "reviews": _provenance(reviewed, revision)}
        write_manifest(folder, replace(facts, baselines=revision.baselines, provenance=told))
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        folder.rename(out)
    return revision


def _make_public(path: Path, families: Collection[str]) -> None:
    """Families as `public` in the facts of the signatures: they match as before, and flag no more."""
    header, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["family"] in families and row["tier"] == Tier.EXCLUSIVE:
            row["tier"] = Tier.PUBLIC
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in (header, *rows))
    path.write_text(lines, encoding="utf-8")


def _provenance(reviewed: Sequence[Reviewed], revision: Revision) -> dict[str, object]:
    """No account and no analyst is named in a bundle."""
    told = "\n".join(sorted(map(repr, reviewed)))
    counts = {state: sum(one.state == state for one in reviewed) for state in STATES}
    return {"sha256": sha256(told.encode()).hexdigest(), **counts, "made_public": list(revision.made_public)}


def revision_lines(reviewed: Sequence[Reviewed], before: Sequence[float], revision: Revision) -> list[str]:
    """What changed, for reading."""
    counts = ", ".join(f"{sum(one.state == state for one in reviewed):,} {state}" for state in STATES)
    families = ", ".join(revision.made_public) if revision.made_public else "none"
    pairs = zip(TARGETS, before, revision.baselines.m2, strict=True)
    m2 = [f"{name} {' to '.join(dict.fromkeys((f'{old:.3g}', f'{new:.3g}')))}" for name, old, new in pairs]
    return [
        f"Reviewed accounts: {counts}.",
        f"Families that flag no more, since honest accounts send them: {families}.",
        f"Intent allowed: {', '.join(m2)}.",
    ]
