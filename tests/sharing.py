"""Two installations that share what they found: traffic with a campaign nobody knows, labelled, approved, exported."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from classifier.bundle import data_dir
from service import cli, exits
from tests.forgeries import QUILL, fill
from tests.runs import write

NOTE = "seen by Ada, ticket 4711"


def run(*arguments: object) -> str:
    """What a command line that must succeed prints."""
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as out:
        code = exits.run_app(cli.app, [str(argument) for argument in arguments])
        out.seek(0)
        said = out.read()
    assert code == 0, (arguments, said)
    return said


def traffic() -> list[dict[str, Any]]:
    """The shipped sample, and 12 accounts that send it seven prompts each of a template that no signature knows."""
    sample = (data_dir() / "sample" / "traffic.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in sample]
    return rows + [
        {
            "event_id": f"forged-{i}",
            "account_id": f"forge-{i % 12}",
            "prompt": prompt,
            "timestamp": rows[20 * i % len(rows)]["timestamp"],
        }
        for i, prompt in enumerate(fill(QUILL, 84, seed=3))
    ]


def installation(folder: Path) -> Path:
    """traffic.jsonl, `known` labelled from it, `local` with the approved campaign, and `run` labelled beside that."""
    source = write(folder / "traffic.jsonl", traffic())
    run("label", source, "--out", folder / "known", "--quiet")
    found = json.loads(run("templates", "discover", folder / "known", "--json"))["findings"][0]["id"]
    family = ("--family", "night_mill", "--capability", "coding", "--note", NOTE)
    run("templates", "approve", folder / "known", found, *family, "--catalogue", folder / "local", "--yes")
    run("label", source, "--out", folder / "run", "--catalogue", folder / "local", "--quiet")
    return folder
