"""The worker that sends: of all processes one at a time, each message until it arrives or is given up.

    outbox -> **worker** (webhook, quiet hours) -> the operator's receiver

At least once: a try is noted before it begins and its outcome after it ended, so whoever is killed between the two has
the message sent again, with the same id.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import threading
import time
from dataclasses import dataclass

from classifier.errors import ProbewatchError, UsageError
from service.alerts.quiet import QuietHours, parse_quiet
from service.alerts.shown import moment
from service.alerts.webhook import GONE, Receiver, Sent, parse_secrets, parse_url, post
from service.console.links import link_to
from service.http.metrics import Metrics
from service.settings import Settings
from service.store.leases import take_lease
from service.store.opening import Store
from service.store.outbox import (
    Alert,
    Kind,
    Message,
    Waiting,
    compose,
    count_waiting,
    give_up,
    is_failing,
    note_failure,
    note_sent,
    take,
)

log = logging.getLogger("probewatch.alerts")

FIRST_WAIT, LONGEST_WAIT = 30, 3_600
"""Seconds until the second try, and at most; it doubles in between, and up to half of it is left off by chance."""
GATHER = 60
"""Seconds for which new alerts gather while the receiver fails, so that few messages pile up."""
_MARGIN = 60
_LEASE = "alerts"
_PATHS = {Kind.FLAG: ("/account", "id"), Kind.CAMPAIGN: ("/campaign", "id"), Kind.TEMPLATE: ("/discovered", "")}


@dataclass(frozen=True)
class Alerting:
    """Where alerts go and how."""

    receiver: Receiver
    quiet: QuietHours | None
    tries: int
    console_url: str


def alerting_of(settings: Settings) -> Alerting | None:
    """As the settings have it; None without a receiver. Raises UsageError without a secret."""
    if settings.alert_url is None:
        return None
    if settings.alert_secret is None:
        raise UsageError(
            "PROBEWATCH_ALERT_URL is set without PROBEWATCH_ALERT_SECRET, by which the receiver knows what comes from "
            "here: `probewatch alerts secret` makes one."
        )
    receiver = Receiver(parse_url(settings.alert_url), parse_secrets(settings.alert_secret), settings.alert_seconds)
    quiet = parse_quiet(settings.alert_quiet) if settings.alert_quiet is not None else None
    base = settings.console_url if settings.console_url is not None else ""
    return Alerting(receiver, quiet, settings.alert_tries, base.rstrip("/"))


class Worker:
    """Sends what waits, in a thread of its own."""

    def __init__(self, store: Store, alerting: Alerting, metrics: Metrics, seconds: float) -> None:
        self._store, self._alerting, self._metrics, self._seconds = store, alerting, metrics, seconds
        self._holder = secrets.token_hex(8)
        self._gathered_at = 0
        self._problem: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the try that runs; one that lasts too long is repeated by whoever comes next."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._alerting.receiver.seconds)

    def turn(self, now: int) -> bool:
        """Send the message whose turn it is at a time (us); whether there was one.

        Raises:
            StoreError: the store cannot be used.
        """
        message = self._take(now)
        if message is None:
            return False
        self._note(message, self._send(message, now), now)
        return True

    def _send(self, message: Message, now: int) -> Sent:
        documents = [_document(one, self._alerting.console_url) for one in message.alerts]
        body = body_of(message.made, documents)
        return post(self._alerting.receiver, message.message_id, now // 1_000_000, body)

    def _take(self, now: int) -> Message | None:
        with self._store.reading() as connection:
            waiting = count_waiting(connection)
        self._metrics.alerts_waiting.set(waiting.n_waiting)
        if not self._may_send(waiting, now):
            return None
        busy = now + round((self._alerting.receiver.seconds + _MARGIN) * 1e6)
        with self._store.writing() as connection:
            if not take_lease(connection, _LEASE, self._holder, now, busy):
                return None
            if not is_failing(connection, now) or now - self._gathered_at >= GATHER * 1_000_000:
                self._gathered_at = now
                compose(connection, now)
            return take(connection, now, busy)

    def _may_send(self, waiting: Waiting, now: int) -> bool:
        quiet = self._alerting.quiet
        return waiting.n_waiting > 0 and not (quiet is not None and quiet.hold_at(now))

    def _note(self, message: Message, sent: Sent, now: int) -> None:
        reason = f"{self._alerting.receiver.host}: {sent.problem}"
        last = sent.status == GONE or message.tries >= self._alerting.tries
        outcome = "sent" if sent.problem is None else "given_up" if last else "failed"
        with self._store.writing() as connection:
            if sent.problem is None:
                note_sent(connection, message, now)
            elif last:
                give_up(connection, message, reason, now)
            else:
                note_failure(connection, message, reason, now + round(wait_of(message.tries, sent) * 1e6))
        self._metrics.alert_messages.labels(outcome).inc()
        if sent.problem is not None:
            log.warning("message %s, try %d, %s: %s", message.message_id, message.tries, outcome, reason)

    def _run(self) -> None:
        while not self._stop.is_set():
            worked, problem = False, None
            try:
                worked = self.turn(time.time_ns() // 1000)
            except ProbewatchError as error:
                problem = str(error)
            if problem is not None and problem != self._problem:
                log.warning("alerts wait: %s", problem)
            self._problem = problem
            if not worked:
                self._stop.wait(self._seconds)


def send_test(alerting: Alerting) -> Sent:
    """Send a message that says that it is a test, now, whatever the hour."""
    now = time.time_ns() // 1000
    document: dict[str, object] = {"kind": "test", "at": moment(now), "message": "A test of alerts by probewatch."}
    body = body_of(now, [document])
    return post(alerting.receiver, f"msg_{secrets.token_hex(16)}", now // 1_000_000, body)


def body_of(made: int, documents: list[dict[str, object]]) -> bytes:
    """A message: `type`, `timestamp` and `data`, as standardwebhooks.com has it."""
    said = {"type": "probewatch.alerts", "timestamp": moment(made), "data": {"alerts": documents}}
    return json.dumps(said, ensure_ascii=False).encode()


def wait_of(tries: int, sent: Sent) -> float:
    """Seconds until the next try after so many."""
    most = min(FIRST_WAIT * 2 ** min(tries - 1, 16), LONGEST_WAIT)
    asked = sent.retry_after if sent.retry_after is not None else 0
    return max(float(most * random.uniform(0.5, 1)), asked)


def _document(alert: Alert, console_url: str) -> dict[str, object]:
    path, name = _PATHS[alert.kind]
    link = link_to(path, {name: alert.subject}) if name else path
    return {"kind": str(alert.kind), "at": moment(alert.at), **alert.facts, "link": f"{console_url}{link}"}
