"""Labelled runs that an operator has put where the service finds them, and what they share that nothing explains.

    runs (labels, and their inputs again) -> **discoveries** -> approvals, console

The store holds no prompt, so wordings are looked for in labelled runs, whose inputs must lie where they lay.
"""

from __future__ import annotations

import threading
from pathlib import Path

from classifier.pipeline import Pipeline
from service.discovery import Discovery
from service.finished import read_finished
from service.http.problems import Problem

NO_RUNS = (
    "No folder of labelled runs is configured: set PROBEWATCH_RUNS to one, beneath which each `probewatch label --out` "
    "makes a folder."
)


class Discoveries:
    """The runs in a folder. The last one looked into is remembered, since its inputs are read again for that."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._looking = threading.Lock()
        self._last: tuple[object, Discovery] | None = None

    def names(self) -> list[str]:
        """Finished runs, newest first. Raises Problem 409 where no folder is configured."""
        found = [path.parent for path in self._runs().glob("*/run.json")]
        return [path.name for path in sorted(found, key=lambda path: -(path / "run.json").stat().st_mtime_ns)]

    def path(self, name: str) -> Path:
        """The folder of a run. Raises Problem 404 if there is no such run, 409 where no folder is configured."""
        if name not in self.names():
            raise Problem(404, "unknown-run", f"There is no finished run of this name in {self._runs()}.")
        return self._runs() / name

    def look(self, name: str, pipeline: Pipeline) -> Discovery:
        """What the prompts of a run share beside the signatures of a pipeline; takes as long as reading them.

        Raises:
            Problem: as `path`.
            InputError, BundleError: as `Discovery`.
        """
        path = self.path(name)
        state = (path, (path / "run.json").stat().st_mtime_ns, pipeline.bundle_id, pipeline.catalogue_id)
        with self._looking:
            if self._last is None or self._last[0] != state:
                self._last = (state, Discovery(read_finished(path), pipeline, []))
            return self._last[1]

    def _runs(self) -> Path:
        if self._folder is None:
            raise Problem(409, "no-runs", NO_RUNS)
        return self._folder
