"""The service as one object: what is loaded, opened and running, and whether it is ready. Stands after `refresher`."""

from __future__ import annotations

import logging
import threading
import time

from classifier.bundle import default_bundle_dir
from classifier.errors import ProbewatchError
from classifier.pipeline import DEFAULT_HASH_KEY, Pipeline
from service.http.metrics import Metrics
from service.http.parsing import Limits
from service.http.refresher import Refresher
from service.http.scorer import Scorer
from service.http.security import Gate
from service.settings import Settings
from service.store.erasure import MOST_FORGOTTEN, forget_events
from service.store.facts import ask_reload, check_facts, read_reloads
from service.store.opening import Store, open_store
from service.store.upgrade import upgrade

log = logging.getLogger("probewatch.service")

_RETRY_SECONDS = 1.0
_FORGET_TURNS = 10


class Service:
    """Everything between the routes and the store. Opens the store in a thread of its own, however long that takes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limits = Limits(settings.most_depth, round(settings.most_ahead_seconds * 1e6))
        self.store: Store = open_store(settings.store)
        self.metrics = Metrics()
        self.gate = Gate(self.store, settings.rate_per_second)
        self.scorer = Scorer(
            self.store,
            load_pipeline(settings),
            self.metrics,
            settings.most_waiting,
            settings.most_wait_ms / 1e3,
            settings.store_seconds,
        )
        self.refresher = Refresher(
            self.store, self.scorer, self.metrics, settings.population, settings.refresh_seconds, self._look_around
        )
        self._opening: str | None = "The store is being opened."
        self._refused: str | None = None
        self._reloads = 0
        self._stop = threading.Event()
        self._opener = threading.Thread(target=self._open, name="opener", daemon=True)

    def start(self) -> None:
        self.scorer.start()
        self._opener.start()

    def stop(self) -> None:
        """Answer what waits, and close."""
        self._stop.set()
        self._opener.join()
        self.refresher.stop()
        self.scorer.stop()
        self.store.close()

    @property
    def not_ready(self) -> str | None:
        """Why traffic should not come here yet or any more, in a sentence; None if it may."""
        reasons = (self._opening, self.refresher.problem, self.scorer.away)
        return next((reason for reason in reasons if reason is not None), None)

    @property
    def remark(self) -> str | None:
        """What those who run it should know although it is ready, in a sentence."""
        name = self.scorer.pipeline.tokenizer
        return None if name == "gigatoken" else f"{name} tokenises, which takes some 40 times as long as gigatoken."

    def reload(self) -> bool:
        """Load bundle and catalogue again, here now and in every other process soon; whether anything changed.

        Raises:
            BundleError: what is there now is refused; what was loaded before stays.
        """
        before = self.scorer.pipeline
        self._load()
        with self.store.writing() as connection:
            self._reloads = ask_reload(connection)
        after = self.scorer.pipeline
        return (before.bundle_id, before.catalogue_id) != (after.bundle_id, after.catalogue_id)

    def _load(self) -> None:
        loaded = load_pipeline(self.settings)
        with self.store.writing() as connection:
            check_facts(connection, loaded.hash_key, loaded.baselines)
        self.scorer.pipeline = loaded

    def _look_around(self) -> None:
        """What other processes did, keys added and revoked, reloads asked for; and what time has done to event ids."""
        self.gate.refresh()
        self._forget()
        with self.store.reading() as connection:
            asked = read_reloads(connection)
        if asked == self._reloads:
            return
        self._reloads = asked
        try:
            self._load()
        except ProbewatchError as error:
            log.error("reload refused, what was loaded before stays: %s", error)

    def _forget(self) -> None:
        before = time.time_ns() // 1000 - round(self.settings.retention_hours * 3_600_000_000)
        for _ in range(_FORGET_TURNS):
            with self.store.writing() as connection:
                if forget_events(connection, before) < MOST_FORGOTTEN:
                    return

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
            self._reloads = read_reloads(connection)
        self.gate.refresh()
        self.refresher.start()
        self._opening = None
        log.info("ready: bundle %s, catalogue %s", pipeline.bundle_id, pipeline.catalogue_id)


def load_pipeline(settings: Settings) -> Pipeline:
    """Bundle and catalogue of the settings. Raises BundleError."""
    key = settings.hash_key.get_secret_value().encode() if settings.hash_key is not None else DEFAULT_HASH_KEY
    bundle = settings.bundle if settings.bundle is not None else default_bundle_dir()
    return Pipeline.load(bundle, key, settings.catalogue)
