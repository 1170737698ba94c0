"""The service as one object: what is loaded, opened and running, and whether it is ready. Stands after `refresher`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

from classifier.errors import ProbewatchError
from service.alerts.worker import Worker, alerting_of
from service.http.discoveries import Discoveries
from service.http.loading import load_exceptions, load_pipeline, stamp_of
from service.http.metrics import Metrics
from service.http.parsing import Limits
from service.http.refresher import Refresher
from service.http.scorer import Scorer
from service.http.security import Gate
from service.http.tracing import Traces
from service.retention import Retention
from service.settings import Settings
from service.store.facts import ask_reload, check_facts, read_reloads
from service.store.opening import Store, open_store
from service.store.reviewing import settle_exceptions
from service.store.upgrade import upgrade

log = logging.getLogger("probewatch.service")

_RETRY_SECONDS = 1.0


class Service:
    """Everything between the routes and the store. Opens the store in a thread of its own, however long that takes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limits = Limits(settings.most_depth, round(settings.most_ahead_seconds * 1e6))
        self.store: Store = open_store(settings.store)
        self.metrics = Metrics()
        self._agreed = load_exceptions(settings)
        self.discoveries = Discoveries(settings.runs)
        self.gate = Gate(self.store, settings.rate_per_second)
        self.traces = Traces(settings.traces_url) if settings.traces_url is not None else None
        self.scorer = Scorer(settings, load_pipeline(settings), self.metrics, self.traces)
        self.alerting = alerting_of(settings)
        self.refresher = Refresher(
            self.store,
            self.scorer,
            self.metrics,
            settings.population,
            settings.refresh_seconds,
            self._look_around,
            tells=self.alerting is not None,
        )
        self.worker = (
            Worker(self.store, self.alerting, self.metrics, settings.refresh_seconds)
            if self.alerting is not None
            else None
        )
        self._retention = Retention(self.store, settings)
        self._opening: str | None = "The store is being opened."
        self._refused: str | None = None
        self._reloads = 0
        self._catalogue_seen = stamp_of(settings)
        self._stop = threading.Event()
        self._opener = threading.Thread(target=self._open, name="opener", daemon=True)

    async def start(self) -> None:
        await self.scorer.start()
        self._opener.start()

    async def stop(self) -> None:
        """End what runs, and close."""
        self._stop.set()
        await asyncio.to_thread(self._stop_threads)
        await self.scorer.stop()
        self.store.close()
        if self.traces is not None:
            self.traces.close()

    def _stop_threads(self) -> None:
        self._opener.join()
        if self.worker is not None:
            self.worker.stop()
        self.refresher.stop()

    @property
    def not_ready(self) -> str | None:
        """Why traffic should not come here yet or any more, in a sentence; None if it may."""
        reasons = (self._opening, self.scorer.lost, self.refresher.problem, self.scorer.away)
        return next((reason for reason in reasons if reason is not None), None)

    @property
    def remark(self) -> str | None:
        """What those who run it should know although it is ready, in a sentence."""
        name = self.scorer.pipeline.tokenizer
        return None if name == "gigatoken" else f"{name} tokenises, which takes some 40 times as long as gigatoken."

    def reload(self) -> bool:
        """Load bundle, catalogue and exceptions again, here now and in every other process soon; whether a bundle or
        catalogue changed.

        Raises:
            BundleError, InputError: what is there now is refused; what was loaded before stays.
        """
        before = self.scorer.pipeline
        self._load()
        with self.store.writing() as connection:
            self._reloads = ask_reload(connection)
        after = self.scorer.pipeline
        return (before.bundle_id, before.catalogue_id) != (after.bundle_id, after.catalogue_id)

    def _load(self) -> None:
        self._catalogue_seen = stamp_of(self.settings)
        loaded = load_pipeline(self.settings)
        agreed = load_exceptions(self.settings)
        with self.store.writing() as connection:
            check_facts(connection, loaded.hash_key, loaded.baselines)
            settle_exceptions(connection, agreed, loaded.baselines)
        self.scorer.replace(loaded)

    def _look_around(self) -> None:
        """What others did, keys added and revoked, reloads asked for, the catalogue written to; and forgetting what is
        past its time."""
        self.gate.refresh()
        self._retention.turn(time.time_ns() // 1000)
        with self.store.reading() as connection:
            asked = read_reloads(connection)
        if asked == self._reloads and stamp_of(self.settings) == self._catalogue_seen:
            return
        self._reloads = asked
        try:
            self._load()
        except ProbewatchError as error:
            log.error("reload refused, what was loaded before stays: %s", error)

    def _open(self) -> None:
        while not self._stop.is_set():
            try:
                self._open_once()
                return
            except ProbewatchError as error:
                if self._opening != str(error):
                    log.error("not ready: %s", error)
                self._opening = str(error)
                self._stop.wait(_RETRY_SECONDS)

    def _open_once(self) -> None:
        upgrade(self.store)
        pipeline = self.scorer.pipeline
        with self.store.writing() as connection:
            check_facts(connection, pipeline.hash_key, pipeline.baselines)
            settle_exceptions(connection, self._agreed, pipeline.baselines)
            self._reloads = read_reloads(connection)
        self.gate.refresh()
        self.refresher.start()
        if self.worker is not None:
            self.worker.start()
        self._opening = None
        log.info("ready: bundle %s, catalogue %s", pipeline.bundle_id, pipeline.catalogue_id)
