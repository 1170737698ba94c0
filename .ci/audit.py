"""Known flaws in the pinned dependencies, by pip-audit. Ends with 1 if there is one that is not accepted.

    python .ci/audit.py PIP_AUDIT [CONSTRAINTS...]

Where the database of flaws cannot be reached nothing is known, which is said and is no failure: pip-audit itself calls
that "no known vulnerabilities". Accepted flaws stand in audit-accepted.txt: an id a line, and why.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
PATIENCE = 300


def main(program: str, files: Sequence[Path]) -> int:
    accepted = read_accepted((HERE / "audit-accepted.txt").read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        said = [ask(program, path, Path(folder) / f"{i}.json") for i, path in enumerate(files)]
    lines, failed = judge([one for part in said for one in part], accepted)
    print("\n".join(lines))
    return int(failed)


def ask(program: str, requirements: Path, out: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each dependency; nothing where it could not ask."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "5", "-f", "json"]
    command = [program, "-r", str(requirements), *options, "-o", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return []
    if not out.exists():
        print(f"{requirements.name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no answer'}")
        return []
    return list(json.loads(out.read_text(encoding="utf-8"))["dependencies"])


def read_accepted(text: str) -> dict[str, str]:
    """Reason by id. Raises ValueError for an id without a reason."""
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if any(len(line) < 2 for line in lines):
        raise ValueError("audit-accepted.txt: an id without a reason; expected ID REASON in every line.")
    return {line[0]: line[1] for line in lines}


def judge(dependencies: Sequence[Mapping[str, Any]], accepted: Mapping[str, str]) -> tuple[list[str], bool]:
    """What to say, and whether there is a flaw that is not accepted."""
    known = [one for one in dependencies if "skip_reason" not in one]
    flaws = [(one, flaw) for one in known for flaw in one["vulns"]]
    lines, failed = (
        [f"{len(known)} of {len(dependencies)} pinned dependencies audited, {len(flaws)} known flaws."],
        False,
    )
    if not known:
        lines = ["Not audited: the database of known flaws cannot be reached from here."]
    for one, flaw in flaws:
        reason = next((accepted[name] for name in (flaw["id"], *flaw["aliases"]) if name in accepted), None)
        fixed = ", ".join(flaw["fix_versions"]) or "no version"
        verdict = (
            f"accepted: {reason}" if reason is not None else f"fixed in {fixed}: pin it, or accept it with a reason."
        )
        lines.append(f"{one['name']} {one['version']} has {flaw['id']}; {verdict}")
        failed = failed or reason is None
    return lines, failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [Path(name) for name in sys.argv[2:]]))
