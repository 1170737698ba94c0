"""`probewatch bench serve`: what scoring in-line costs here, beside an endpoint that does nothing, and under overload.

made requests -> load -> `probewatch serve` in a process of its own, its store committed to disk -> figures

The load shares the processors with the server, so that ratios count: to the empty endpoint, in the same run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from service.bench.load import post, run_load
from service.bench.measures import Measure
from service.bench.servers import Server, empty_server, probewatch_server
from service.bench.traffic import BYTES, prompts

PROMPTS, ACCOUNTS = 8_192, 1_000
BATCH = 256
CONNECTIONS = (16, 32, 64, 128)
"""How many at once, to find the peak."""
MANY = 512
"""Connections of a load that comes at its own pace: more than are ever waiting."""
OVERLOAD = 3
_LOOK_SECONDS = 0.5
_EVENTS = ("received", "scored", "shed", "rejected", "failed")


@dataclass(frozen=True)
class Peak:
    """The most requests a second, with how many connections, and processor time of the server for each of
    them, in us, refusals included."""

    rate: float
    connections: int
    cost: float


def measure_serve(
    folder: Path, store: str | None, seconds: float, overload: float, soak: float, say: Callable[[str], None]
) -> Iterator[Measure]:
    """Figures on a new store, in the folder unless one is named; each load lasts `seconds`, that of three times the
    peak `overload`, that at half of it `soak`. `say` hears what is being measured.

    Raises:
        ProbewatchError: a server does not come up, or does not bear the load.
    """
    say("start")
    url = store if store is not None else f"sqlite:///{folder / 'store.db'}"
    with probewatch_server(url, folder / "server.log") as server, empty_server(folder / "empty.log") as empty:
        yield Measure("cold start to ready", server.seconds_to_ready, "s", "probewatch serve, default bundle")
        single = requests(1)
        run_load(server.port, single, CONNECTIONS[0], seconds / 5)  # the first thousand requests are slower
        peak, base = _peak(server, single, seconds, say), _peak(empty, single, seconds, say)
        yield from _beside(peak, base)
        yield _batches(server, seconds, say)
        yield from _at_half(server, single, peak.rate / 2, seconds, say)
        if overload:
            yield from _overloaded(server, single, OVERLOAD * peak.rate, overload, say)
        if soak:
            yield from _soaked(server, single, peak.rate / 2, soak, say)


def requests(n: int) -> list[bytes]:
    """Requests with n events each, prompts of 500 bytes, all but distinct; of each account some."""
    texts = prompts(PROMPTS)
    events = [{"account_id": f"account-{i % ACCOUNTS}", "prompt": text} for i, text in enumerate(texts)]
    if n == 1:
        return [post("/v1/score", orjson.dumps(event)) for event in events]
    return [post("/v1/score/batch", orjson.dumps({"events": events[i : i + n]})) for i in range(0, PROMPTS, n)]


def _peak(server: Server, sent: Sequence[bytes], seconds: float, say: Callable[[str], None]) -> Peak:
    found = []
    for connections in CONNECTIONS:
        say(f"peak: {connections} connections")
        before = server.processor_seconds
        loaded = run_load(server.port, sent, connections, seconds)
        cost = (server.processor_seconds - before) / max(len(loaded.took), 1) * 1e6
        found.append(Peak(loaded.rate, connections, cost))
    return max(found, key=lambda peak: peak.rate)


def _beside(peak: Peak, base: Peak) -> Iterator[Measure]:
    note = f"/v1/score, prompts of {BYTES} bytes, one worker, {peak.connections} connections, committed before answered"
    yield Measure("requests at peak", peak.rate, "requests/s", note)
    yield Measure("empty endpoint", base.rate, "requests/s", f"the same models, {base.connections} connections")
    yield Measure("beside the empty endpoint", peak.rate / base.rate, "of its peak", "target .6")
    note = f"of the server, processor time; the empty endpoint takes {base.cost:,.0f}"
    yield Measure("cost of a request", peak.cost, "us", note)


def _batches(server: Server, seconds: float, say: Callable[[str], None]) -> Measure:
    say(f"batches of {BATCH}")
    loaded = run_load(server.port, requests(BATCH), 2, seconds)
    note = f"/v1/score/batch of {BATCH}, two at a time; target 15,000"
    return Measure("prompts in batches", loaded.rate * BATCH, "prompts/s", note)


def _at_half(
    server: Server, sent: Sequence[bytes], rate: float, seconds: float, say: Callable[[str], None]
) -> Iterator[Measure]:
    say(f"half of the peak: {rate:,.0f} requests/s")
    before = server.samples()
    loaded = run_load(server.port, sent, MANY, seconds, rate)
    after = server.samples()
    note = f"at half of the peak, {rate:,.0f} requests/s"
    for part, target in ((0.5, 2), (0.99, 10)):
        yield Measure(f"latency, p{part * 100:g}", loaded.milliseconds(part), "ms", f"{note}; target {target}")
    for part, target in ((0.5, 150), (0.99, 1000)):
        inside = 1e6 * bucket_quantile(_buckets(before, after, "probewatch_label_seconds"), part)
        by = f"{note}, a turn, by the server's clock; target {target}"
        yield Measure(f"in the pipeline, p{part * 100:g}", inside, "us", by)


def _overloaded(
    server: Server, sent: Sequence[bytes], rate: float, seconds: float, say: Callable[[str], None]
) -> Iterator[Measure]:
    say(f"{OVERLOAD} x the peak: {rate:,.0f} requests/s for {seconds:g} s")
    before = server.samples()
    with _Memory(server) as memory:
        loaded = run_load(server.port, sent, MANY, seconds, rate)
    counted = {name: _total(server.samples(), name) - _total(before, name) for name in _EVENTS}
    note = f"at {OVERLOAD} x the peak for {seconds:g} s"
    shed = loaded.statuses[503]
    yield Measure("overload, sent", loaded.n_answers / loaded.seconds, "requests/s", note)
    yield Measure("overload, accepted", loaded.rate, "requests/s", f"{note}; the other {shed:,} are answered 503")
    yield Measure("overload, latency p99", loaded.milliseconds(0.99), "ms", "of those accepted; target 50")
    strange = loaded.n_answers - len(loaded.took) - shed + loaded.unanswered
    yield Measure("overload, neither 200 nor 503", strange, "requests", "no answer counts too; target 0")
    apart = counted["received"] - sum(counted[name] for name in _EVENTS[1:])
    unseen = loaded.n_answers - counted["received"]
    yield Measure("overload, counters apart", abs(apart) + abs(unseen), "events", "received, the rest and sent")
    yield Measure("overload, memory", memory.growth * 100, "% more", f"{memory.last:,.0f} MiB at the end; target flat")


def _soaked(
    server: Server, sent: Sequence[bytes], rate: float, seconds: float, say: Callable[[str], None]
) -> Iterator[Measure]:
    say(f"half of the peak for {seconds:,.0f} s")
    with _Memory(server) as memory:
        loaded = run_load(server.port, sent, MANY, seconds, rate)
    tenth = max(len(loaded.took) // 10, 1)
    first, last = (float(np.median(part)) for part in (loaded.took[:tenth], loaded.took[-tenth:]))
    note = f"{rate:,.0f} requests/s for {seconds:,.0f} s"
    yield Measure("soak, memory", memory.growth * 100, "% more", f"{note}; target 2 in an hour")
    yield Measure("soak, latency", last / first, "x", f"median of the last tenth against the first, {note}")


class _Memory:
    """Resident memory of a server while something is done."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seen: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def last(self) -> float:
        return self._seen[-1]

    @property
    def growth(self) -> float:
        """From the most in the first quarter of the time to the most in the last, as a share."""
        quarter = max(len(self._seen) // 4, 1)
        return max(self._seen[-quarter:]) / max(self._seen[:quarter]) - 1

    def _look(self) -> None:
        while not self._seen or not self._done.wait(_LOOK_SECONDS):
            self._seen.append(self._server.mib)


def _total(samples: Mapping[tuple[str, str], float], name: str) -> int:
    return int(samples[f"probewatch_events_{name}_total", ""])


def _buckets(
    before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float], name: str
) -> dict[float, float]:
    """How many observations between two looks at a histogram were at most so large."""
    key = f"{name}_bucket"
    return {float(le): value - before[known, le] for (known, le), value in after.items() if known == key}


def bucket_quantile(buckets: Mapping[float, float], part: float) -> float:
    """Quantile of a histogram, as if values spread evenly within a bucket. `buckets`: counts of values at most so
    large. Beyond the largest finite bound that bound, and nan without values."""
    bounds = sorted(buckets)
    counts = np.array([0.0, *(buckets[bound] for bound in bounds)])
    finite = np.array([0.0, *bounds[:-1], bounds[-2]])
    return float(np.interp(part * counts[-1], counts, finite)) if counts[-1] else float("nan")
