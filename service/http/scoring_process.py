"""The process that scores, beside the one that speaks HTTP: neither waits for the other's hold on the interpreter.

    frames, turns -> **scoring_process** -> scorer

It takes all that waits as one turn, and answers over the socket that it was given. It ends when the other end of that
is closed: after the turn at hand, whose evidence is committed and whose askers are gone. Signals are left to the front.
"""

from __future__ import annotations

import atexit
import selectors
import signal
import sys
import threading
from collections import deque
from contextlib import closing, suppress
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from socket import socket, socketpair
from typing import NamedTuple

from classifier.errors import ProbewatchError
from classifier.pipeline import Pipeline
from classifier.verdicts import Thresholds
from service.http.frames import Frames, pack
from service.http.loading import load_pipeline
from service.http.published import Campaigns, Published
from service.http.turns import Done, Job, Turns
from service.settings import Settings
from service.store.opening import open_store

MOST_TURN = 256
"""Events in a turn; the request that reaches it is still part of it."""
_RECEIVED = 1 << 18  # bytes at once
_FORKS = sys.platform == "linux"  # elsewhere libraries of the system are not made for it


class Publish(NamedTuple):
    """Go by this from now on (see `Published`); by the campaigns that are known already if `campaigns` is None."""

    thresholds: Thresholds
    as_of: datetime
    campaigns: Campaigns | None


class Load(NamedTuple):
    """Load bundle and catalogue again, and go by them."""


class Loaded(NamedTuple):
    """It goes by what is there now, at its begin too; or by what it had before, for a reason."""

    refusal: ProbewatchError | None


class Begun(NamedTuple):
    """A process that was begun, and this end of the socket to it."""

    process: BaseProcess
    channel: socket


def begin(settings: Settings, pipeline: Pipeline | None) -> Begun:
    """Begin a process: forked with a pipeline, where that may be, so that what is loaded is loaded once; else one that
    loads its own."""
    ours, theirs = socketpair()
    process: BaseProcess
    if pipeline is not None and _FORKS:
        process = get_context("fork").Process(target=_run, args=(settings, theirs, pipeline, ours), daemon=True)
    else:
        process = get_context("spawn").Process(target=_run, args=(settings, theirs), daemon=True)
    process.start()
    theirs.close()
    atexit.register(process.kill)  # before multiprocessing waits for it
    return Begun(process, ours)


def _run(settings: Settings, channel: socket, pipeline: Pipeline | None = None, others: socket | None = None) -> None:
    """What the process does. `others`: the other end, which a fork has too, and by which it would keep itself alive."""
    if others is not None:
        others.close()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        loaded = pipeline if pipeline is not None else load_pipeline(settings)
    except ProbewatchError as error:
        channel.sendall(pack(Loaded(error)))
        return
    excerpt = settings.excerpt_characters if settings.excerpt_hours else 0
    with closing(open_store(settings.store)) as store:
        turns = Turns(store, loaded, settings.store_seconds, excerpt)
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
        self._send(Loaded(None))
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
                threading.Thread(target=self._load, daemon=True).start()
            elif isinstance(message, list):
                self._jobs.extend(message)

    def _publish(self, message: Publish) -> None:
        if message.campaigns is not None:
            self._campaigns = message.campaigns
        self._turns.published = Published(message.thresholds, self._campaigns, message.as_of)

    def _load(self) -> None:
        refusal = None
        with self._loading:  # of two, the later one loads what is there last
            try:
                self._turns.pipeline = load_pipeline(self._settings)
            except ProbewatchError as error:
                refusal = error
        self._send(Loaded(refusal))

    def _send(self, message: Done | Loaded) -> None:
        with self._sending:
            self._channel.sendall(pack(message))
