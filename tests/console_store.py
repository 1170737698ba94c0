"""What the tests of the console look at: the sample's run in a store, and forms as a browser sends them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

from classifier.bundle import data_dir, default_bundle_dir
from classifier.pipeline import Pipeline
from service.batch import label
from service.importing import import_run
from service.store.opening import open_store
from service.store.upgrade import upgrade

POPULATION = 47
SAMPLE = data_dir() / "sample" / "traffic.jsonl"


def sample_run(folder: Path) -> Path:
    """The sample, labelled."""
    label([str(SAMPLE)], folder, pipeline=Pipeline.load(default_bundle_dir()), population=POPULATION, workers=1)
    return folder


def imported(run: Path, url: str) -> str:
    """A store that holds a run; its URL."""
    store = open_store(url)
    upgrade(store)
    import_run(run, store)
    store.close()
    return url


def token_in(page: str) -> str:
    """The token of the forms of a page."""
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


def send(client: httpx.Client, page: str, path: str, **fields: Any) -> httpx.Response:
    """Send a form that stands on a page."""
    return client.post(path, data={"token": token_in(client.get(page).text), **fields})
