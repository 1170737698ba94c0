"""How heavy the console's first page is, and when it can be used: python -m tests.benchmarks.first_page

In Chromium, over the sample's run, of tabs without a cache. `interactive`: the page is there and its links work;
`drawn`: its plots are too. Medians of ROUNDS tabs; other work on the machine shows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.browsing import browser, drawn
from tests.console_store import POPULATION, imported, sample_run
from tests.serving import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Response

ROUNDS = 3
PAGES = ("/", "/accounts", "/account?id=acct_0032", "/models")
_TIMES = (
    "() => { const n = performance.getEntriesByType('navigation')[0]; return [n.domInteractive, performance.now()]; }"
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = imported(sample_run(Path(folder) / "run"), f"sqlite:///{Path(folder) / 'store.db'}")
        with running(url, population=POPULATION) as server, browser() as chrome:
            server.publish()
            print(f"{'page':<24}{'KB':>8}{'with plots':>12}{'interactive':>13}{'drawn':>8}   ms")
            for path in PAGES:
                print(line_of(chrome, server, path), flush=True)


def line_of(chrome: Browser, server: Running, path: str) -> str:
    """What a page weighs and takes."""
    sizes: dict[str, int] = {}
    times = list[tuple[float, float]]()
    for _ in range(ROUNDS):
        context = chrome.new_context(base_url=str(server.client.base_url))
        page = context.new_page()
        page.on("response", lambda answer: sizes.update({answer.url: size_of(answer)}))
        page.goto(path)
        drawn(page)
        ready, now = page.evaluate(_TIMES)
        times.append((ready, now))
        context.close()
    own = sum(size for url, size in sizes.items() if "plotly" not in url) / 1000
    ready, shown = (median(values) for values in zip(*times, strict=True))
    return f"{path:<24}{own:8.0f}{sum(sizes.values()) / 1000:12.0f}{ready:13.0f}{shown:8.0f}"


def size_of(answer: Response) -> int:
    """Bytes of a body, without fetching it once more where its length is told."""
    told = answer.header_value("content-length")
    return int(told) if told is not None else len(answer.body())


if __name__ == "__main__":
    main()
