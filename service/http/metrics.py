"""Counters and histograms for Prometheus. received = scored + shed + rejected + failed, in events, at rest."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_FINE = tuple(step * unit for unit in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1) for step in (1, 1.5, 2, 3, 5, 7))
_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """What is counted in this process; `text` tells of all processes of the service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"probewatch_events_{name}", meaning, registry=registry)

        self.received = counter("received", "Events that came with a request to score.")
        self.scored = counter("scored", "Events labelled, committed and answered; retries of them too.")
        self.shed = counter("shed", "Events refused with 503, since too many waited.")
        self.rejected = counter("rejected", "Events refused, since something was wrong with them.")
        self.failed = counter("failed", "Events that could not be scored through no fault of theirs.")
        self.requests = Counter(
            "probewatch_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "probewatch_request_seconds", "Time from request to answer.", ["path"], buckets=_SECONDS, registry=registry
        )
        self.turn = Histogram(
            "probewatch_turn_seconds", "Time to label and commit what waited.", buckets=_SECONDS, registry=registry
        )
        self.label = Histogram(
            "probewatch_label_seconds", "Time of a turn in the pipeline.", buckets=_FINE, registry=registry
        )
        self.turn_events = Histogram(
            "probewatch_turn_events", "Events labelled and committed at once.", buckets=_EVENTS, registry=registry
        )
        self.alert_messages = Counter(
            "probewatch_alert_messages",
            "Messages to the receiver of alerts, by what came of a try: sent, failed, given_up.",
            ["outcome"],
            registry=registry,
        )
        self.alerts_waiting = Gauge(
            "probewatch_alerts_waiting", "Alerts that wait to be sent.", registry=registry,
            multiprocess_mode="livemostrecent",
        )  # fmt: skip
        self.as_of = Gauge(
            "probewatch_verdict_as_of_seconds", "When verdicts were last published.", registry=registry,
            multiprocess_mode="livemin",
        )  # fmt: skip

        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request, by the path of its route; the library's own way to the counters of a label is slow."""
        children = self._children.get((path, status))
        if children is None:
            children = self.requests.labels(path, status), self.seconds.labels(path)
            self._children[path, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def text(self) -> bytes:
        """Everything in the text format."""
        return generate_latest(self._of_all())

    def counts(self) -> dict[str, int]:
        """Events received, scored, shed, rejected and failed since the service was started."""
        families = {family.name: family for family in self._of_all().collect()}
        names = ("received", "scored", "shed", "rejected", "failed")
        found = ((name, families.get(f"probewatch_events_{name}")) for name in names)
        return {
            name: int(sum(one.value for one in family.samples if one.name.endswith("_total")))
            if family is not None
            else 0
            for name, family in found
        }

    def _of_all(self) -> CollectorRegistry:
        """What all processes of the service counted."""
        if MULTIPROCESS not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry
