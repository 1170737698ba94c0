"""The thread that publishes: thresholds of this moment, and campaigns found by whichever process claims the turn.

standing, campaigns -> **refresher** -> scorer (what is said of accounts), routes
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from classifier.errors import ProbewatchError
from classifier.verdicts import Thresholds
from service.alerts.news import tell_campaigns, tell_flags
from service.http.metrics import Metrics
from service.http.published import Campaigns, Published
from service.http.scorer import Scorer
from service.store.campaigns import (
    CampaignFinder,
    Families,
    Publication,
    claim,
    publish,
    read_publication,
    read_version,
)
from service.store.opening import Store
from service.store.standing import read_thresholds

log = logging.getLogger("probewatch.refresher")

SHARE = 10
"""Campaigns are looked for at most this part of the time: finding them again waits as many times as long."""
_CLAIM_SECONDS = 5.0
"""A store that takes longer to note a claim hangs: found out here, every few seconds."""


class Refresher:
    """Publishes every few seconds, and looks around. `problem`: why it last could not, in a sentence; None if it
    could."""

    def __init__(
        self,
        store: Store,
        scorer: Scorer,
        metrics: Metrics,
        population: int,
        seconds: float,
        look_around: Callable[[], None],
        tells: bool = False,
    ) -> None:
        """`tells`: write alerts of what is new."""
        self._store, self._scorer, self._metrics = store, scorer, metrics
        self._population, self._seconds = population, seconds
        self._look_around, self._tells = look_around, tells
        self._finder, self._unpublished = CampaignFinder(), False
        self.publication = Publication(0, (), {}, {})
        self._campaigns = Campaigns({}, {})
        self.problem: str | None = "Nothing is published yet."
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)

    def start(self) -> None:
        """Publish once, then every few seconds in a thread."""
        self.publish()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def publish(self, claimed: bool = False) -> None:
        """Publish now; what stands in the way is noted, and what was published last stays.

        `claimed`: find campaigns whosever turn it is.
        """
        try:
            self._find_campaigns(claimed)
            thresholds = self._publish_thresholds()
            if self._tells:
                tell_flags(self._store, thresholds, _us(time.time()))
            self.problem = None
            self._scorer.store_is_back()
        except ProbewatchError as error:
            if str(error) != self.problem:
                log.warning("not published: %s", error)
            self.problem = str(error)

    def _publish_thresholds(self) -> Thresholds:
        as_of = datetime.now(UTC)
        with self._store.reading() as connection:
            thresholds = read_thresholds(connection, self._population, self._scorer.pipeline.baselines)
            if read_version(connection) != self.publication.version:
                self.publication = read_publication(connection)
                self._campaigns = Campaigns(self.publication.members, self.publication.links)
        self._scorer.publish(Published(thresholds, self._campaigns, as_of))
        self._metrics.as_of.set(as_of.timestamp())
        return thresholds

    def _find_campaigns(self, claimed: bool) -> None:
        began = time.time()
        with self._store.writing(_CLAIM_SECONDS) as connection:
            if not claim(connection, _us(began), _us(began + self._seconds)) and not claimed:
                return
        pipeline = self._scorer.pipeline
        families = Families(pipeline.n_families, pipeline.approvals)
        with self._store.reading() as connection:
            self._unpublished |= self._finder.refresh(connection, families)
            if not self._unpublished:
                return
            found = self._finder.find(connection, families)
        with self._store.writing() as connection:
            if self._tells:
                tell_campaigns(connection, found.campaigns, _us(began))
            publish(connection, found, _us(began))
            took = time.time() - began
            claim(connection, 2**62, _us(time.time() + max(self._seconds, SHARE * took)))
        self._unpublished = False

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.publish()
            try:
                self._look_around()
            except ProbewatchError as error:
                self.problem = str(error)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
