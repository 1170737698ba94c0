"""Pictures of the console over the sample's run, which is generated traffic: data/screenshots/*.png, for the README.

    python -m tests.benchmarks.screenshots [--out data/screenshots]

Needs Chromium and the dev extra, as the tests in a browser do. Each picture stays below 150 KB.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from classifier.bundle import data_dir
from tests.browsing import browser, drawn
from tests.console_store import POPULATION, SAMPLE, imported, sample_run
from tests.serving import Running, running

MOST_BYTES = 150_000
ACCOUNT = "acct_0032"
SHOTS = {  # name: address, width, height, scheme, how far down
    "overview": ("/", 1180, 760, "light", 0),
    "account": (f"/account?id={ACCOUNT}", 1180, 1060, "light", 0),
    "campaign": ("/campaign?id={campaign}", 1180, 760, "dark", 1560),
    "phone": ("/accounts?decision=flag", 390, 760, "dark", 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=data_dir() / "screenshots")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        url = imported(sample_run(Path(folder) / "run"), f"sqlite:///{Path(folder) / 'store.db'}")
        with running(url, population=POPULATION) as server:
            server.publish()
            take(server, out)


def take(server: Running, out: Path) -> None:
    """Take all pictures."""
    campaign = server.client.get("/v1/campaigns").json()["campaigns"][0]["campaign_id"]
    with browser() as opened:
        for name, (address, width, height, scheme, down) in SHOTS.items():
            page = opened.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(f"{server.client.base_url}{address.format(campaign=campaign)}")
            drawn(page)
            page.mouse.wheel(0, down)
            page.wait_for_timeout(300)
            _save(page.screenshot(), out / f"{name}.png")
        page = opened.new_page(viewport={"width": 1180, "height": 900})
        page.goto(f"{server.client.base_url}/try")
        page.fill("#t-prompt", _telling_prompt(server))
        page.click("text=Say what it is")
        page.wait_for_selector("#found")
        _save(page.screenshot(), out / "try.png")


def _telling_prompt(server: Running) -> str:
    told = server.client.get(f"/v1/accounts/{ACCOUNT}").json()["evidence_event_ids"]
    events = map(json.loads, SAMPLE.read_text(encoding="utf-8").splitlines())
    return str(next(event["prompt"] for event in events if event["event_id"] in told))


def _save(picture: bytes, path: Path) -> None:
    assert len(picture) < MOST_BYTES, f"{path.name} has {len(picture):,} bytes: show less"
    path.write_bytes(picture)
    print(f"{path}  {len(picture) / 1e3:.0f} KB")


if __name__ == "__main__":
    main()
