"""The process that scores, beside the one that speaks HTTP: neither waits for the other's hold on the interpreter.

    frames, turns -> **scoring_process** -> scorer

It takes all that waits as one turn, and answers over the socket that it was given. It ends when the other end of that
is closed: after the turn at hand, whose evidence is committed and whose askers are gone. Signals are left to the front.
"""

from __future__ import annotations

import selectors
import signal
import sys
import threading
from collections import deque
from contextlib import closing, suppress
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from socket import socket, socketpair
from typing import NamedTuple

from classifier.errors import BundleError, ProbewatchError
from classifier.pipeline import Pipeline
from classifier.verdicts import Thresholds
from service.http.frames import Frames, pack
from service.http.loading import Ids, ids_of, load_alike, put_requests_first
from service.http.published import Campaigns, Published
from service.http.turns import Done, Job, Turns
from service.settings import Settings
from service.store.opening import open_store

MOST_TURN = 256
"""Events in a turn; the request that reaches it is still part of it."""
_RECEIVED = 1 << 18  # bytes at once
_END_SECONDS = 10.0
"""How long a process whose socket is closed may take for the turn at hand."""
_FORKS = sys.platform == "linux"  # elsewhere libraries of the system are not made for it


class Publish(NamedTuple):
    """Go by this from now on (see `Published`); by the campaigns that are known already if `campaigns` is None."""

    thresholds: Thresholds
    as_of: datetime
    campaigns: Campaigns | None


class Load(NamedTuple):
    """Load this, and go by it."""

    ids: Ids


class Loaded(NamedTuple):
    """Said at the begin and after each `Load`: what it goes by, or why not by what it was told to."""

    ids: Ids
    refusal: BundleError | None


class Begun(NamedTuple):
    """A process that was begun, this end of the socket to it, and what kills it at the latest when this one ends."""

    process: BaseProcess
    channel: socket
    at_exit: Finalize


def begin(settings: Settings, pipeline: Pipeline, forks: bool) -> Begun:
    """Begin a process that goes by a pipeline. `forks`: if that may be here, so that what is loaded is loaded once;
    another loads the same again."""
    ours, theirs = socketpair()
    process: BaseProcess
    if forks and _FORKS:
        process = get_context("fork").Process(target=_go_on, args=(settings, pipeline, theirs, ours), daemon=True)
    else:
        process = get_context("spawn").Process(target=_start, args=(settings, ids_of(pipeline), theirs), daemon=True)
    process.start()
    theirs.close()
    # Before multiprocessing waits for it, which is not always by atexit.
    return Begun(process, ours, Finalize(None, process.kill, exitpriority=10))


def end(begun: Begun) -> None:
    """Wait until a process is gone, and let go of it; one that does not end by itself is killed."""
    begun.process.join(_END_SECONDS)
    begun.process.kill()
    begun.process.join()
    begun.at_exit.cancel()
    begun.process.close()


def _go_on(settings: Settings, pipeline: Pipeline, channel: socket, others: socket) -> None:
    """What a fork does. `others`: the other end, which it has too, and by which it would keep itself alive."""
    others.close()
    _run(settings, pipeline, channel)


def _start(settings: Settings, ids: Ids, channel: socket) -> None:
    """What a process does that has nothing yet."""
    try:
        pipeline = load_alike(settings, ids)
    except ProbewatchError as error:
        channel.sendall(pack(Loaded(ids, BundleError(str(error)))))
        return
    put_requests_first()
    _run(settings, pipeline, channel)


def _run(settings: Settings, pipeline: Pipeline, channel: socket) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    excerpt = settings.excerpt_characters if settings.excerpt_hours else 0
    with closing(open_store(settings.store)) as store:
        turns = Turns(store, pipeline, settings.store_seconds, excerpt)
        with closing(turns), suppress(ConnectionError):  # the other end may go at any time
            _Loop(channel, turns, settings).run()


class _Loop:
    """Takes what comes, and answers, until the other end is closed."""

    def __init__(self, channel: socket, turns: Turns, settings: Settings) -> None:
        self._channel, self._turns, self._settings = channel, turns, settings
        self._frames = Frames()
        self._jobs: deque[Job] = deque()
        self._campaigns = Campaigns({}, {})
        self._sending, self._loading = threading.Lock(), threading.Lock()
        self._is_open = True

    def run(self) -> None:
        self._send(Loaded(ids_of(self._turns.pipeline), None))
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            while self._is_open:
                while selector.select(0 if self._jobs else None) and self._is_open and not self._is_full:
                    self._receive()
                if self._jobs:
                    self._send(self._turns.score(self._turn()))

    @property
    def _is_full(self) -> bool:
        return sum(len(job.events) for job in self._jobs) >= MOST_TURN

    def _turn(self) -> list[Job]:
        jobs: list[Job] = []
        n = 0
        while self._jobs and n < MOST_TURN:
            jobs.append(self._jobs.popleft())
            n += len(jobs[-1].events)
        return jobs

    def _receive(self) -> None:
        data = self._channel.recv(_RECEIVED)
        self._is_open = bool(data)
        for message in self._frames.feed(data):
            if isinstance(message, Publish):
                self._publish(message)
            elif isinstance(message, Load):
                threading.Thread(target=self._load, args=(message.ids,), daemon=True).start()
            elif isinstance(message, list):
                self._jobs.extend(message)

    def _publish(self, message: Publish) -> None:
        if message.campaigns is not None:
            self._campaigns = message.campaigns
        self._turns.published = Published(message.thresholds, self._campaigns, message.as_of)

    def _load(self, ids: Ids) -> None:
        refusal: BundleError | None = None
        with self._loading:  # of two, the later one loads last
            try:
                self._turns.pipeline = load_alike(self._settings, ids)
            except BundleError as error:
                refusal = error
            except Exception as error:  # noqa: BLE001 (the edge: whoever asked waits for an answer)
                refusal = BundleError(f"Unexpected {type(error).__name__} in loading the bundle, which is our fault.")
            self._send(Loaded(ids_of(self._turns.pipeline), refusal))

    def _send(self, message: Done | Loaded) -> None:
        with self._sending:
            self._channel.sendall(pack(message))
