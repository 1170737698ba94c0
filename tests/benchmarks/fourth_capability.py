"""A fourth capability, from the taxonomy to the console: an entry in `taxonomy.toml`, prompts that ask for it, `train`.

    python -m tests.benchmarks.fourth_capability

In a copy of this folder, as somebody would change it; every step is a process of its own. Some minutes: the models are
trained, as small as they can be, on invented prompts. What is shown is that everything follows, not how well it learns.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.fourth_capability import FAMILY, HARVEST, NEW, asks, changed_project, run
from tests.training_data import SAMPLE, write_data

STEPS, BATCHES, KEPT = 8, 40, 100
TRAIN = f"""
from dataclasses import replace
from pathlib import Path
from training import lessons, student
lessons.COPIES, student.EPOCHS, student.EPOCH_ROWS = 1, 1, {BATCHES} * student.BATCH
from training.assemble import assemble, default_recipe
from training.prepare import prepare
data, recipe = Path("public"), replace(default_recipe(0), steps={STEPS})
assemble(prepare(data, 0), data, Path("data/bundle"), Path("work"), recipe, with_transformer=False, log=print)
"""
CONSOLE = """
import sys, time
from fastapi.testclient import TestClient
from service.http.app import create_app
from service.settings import Settings
with TestClient(create_app(Settings(store="sqlite:///store.db", population=40)), base_url="http://127.0.0.1:8080",
                client=("127.0.0.1", 5000)) as client:
    while client.get("/readyz").status_code != 200:
        time.sleep(0.1)
    for path in sys.argv[1:]:
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        print(answer.text)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = changed_project(Path(folder) / "project")
        _add_data(project)
        run(project, "-c", TRAIN)
        print(_label(project))
        rows = [*_verdicts(project), *_exports(project), *_console(project)]
    print("| what | reached |\n|---|---|")
    print("\n".join(f"| {what} | {reached} |" for what, reached in rows))


def _add_data(project: Path) -> None:
    """Prompts that ask for it among those written for training, a family that aims at it, and some public data."""
    written = project / "data" / "written" / "prompts.jsonl"
    kept = written.read_text(encoding="utf-8").splitlines()[::KEPT]
    facts = {"label": NEW, "lang": "en", "part": "written_figures"}
    lines = [*kept, *(json.dumps({"text": ask, **facts}) for ask in asks())]
    written.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (project / "data" / "templates" / "own.toml").open("a", encoding="utf-8") as own:
        own.write(FAMILY)
    write_data(project / "public")


def _label(project: Path) -> str:
    """Traffic of an account that harvests data analysis, one that asks for it, and others."""
    events = [("harvester", HARVEST.replace("{question}", ask)) for ask in asks()[:40]]
    events += [("analyst", ask) for ask in asks()[40:80]]
    sample = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()[:200]]
    events += [(record["account_id"], record["prompt"]) for record in sample if "prompt" in record]
    lines = [
        json.dumps({"account_id": name, "prompt": prompt, "timestamp": f"2026-11-{1 + i % 9:02}T10:00:00Z"})
        for i, (name, prompt) in enumerate(events)
    ]
    (project / "traffic.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return _probewatch(project, "label", "traffic.jsonl", "--out", "run", "--population", "40", "--workers", "1")


def _verdicts(project: Path) -> list[tuple[str, str]]:
    accounts = {row["account_id"]: row for row in pq.read_table(project / "run" / "accounts.parquet").to_pylist()}
    harvester = accounts["harvester"]
    labels = pq.read_table(next((project / "run" / "labels").glob("*.parquet"))).to_pandas()
    asked = labels["account_id"] == "analyst"
    return [
        ("verdict on who harvests it", f"{harvester['decision']} for {', '.join(harvester['capabilities'])}"),
        ("verdict on who asks for it", accounts["analyst"]["decision"]),
        ("mean probability, prompts that ask for it", f"{labels[f'p_{NEW}'][asked].mean():.3f}"),
        ("mean probability, others", f"{labels[f'p_{NEW}'][~asked].mean():.3f}"),
    ]


def _exports(project: Path) -> list[tuple[str, str]]:
    page = (project / "run" / "report.html").read_text(encoding="utf-8")
    found = [("report", _shown(f"--{NEW}: #" in page and "1 for data analysis" in page))]
    for form in ("stix", "ocsf", "csv"):
        key = project / f"key-{form}"
        _probewatch(
            project, "export", "run", "--format", form, "--out", form, "--make-key", "--key-file", str(key), "--review"
        )
        files = [project / form, *(project / form).rglob("*")]
        told = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
        found.append((form, _shown(NEW in told)))
    return found


def _console(project: Path) -> list[tuple[str, str]]:
    _probewatch(project, "import", "run", "--store", "sqlite:///store.db")
    paths = (
        "/",
        f"/accounts?capability={NEW}",
        "/account?id=harvester",
        "/v1/accounts/harvester",
        "/static/report.css",
    )
    told = run(project, "-c", CONSOLE, *paths)
    return [
        ("console, account", _shown("Flagged for probing data analysis" in told)),
        ("console, filter and colours", _shown(f'value="{NEW}"' in told and f"--{NEW}: #" in told)),
        ("HTTP, account", _shown(f'"log10_e_{NEW}":' in told and f'"share_{NEW}":' in told)),
    ]


def _shown(there: bool) -> str:
    return "shows it" if there else "LACKS it"


def _probewatch(project: Path, *arguments: str) -> str:
    return run(project, "-c", "from service.cli import main; main()", *arguments)


if __name__ == "__main__":
    main()
