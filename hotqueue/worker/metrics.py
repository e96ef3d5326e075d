"""The metrics: how the worker and its queues are, as families for Prometheus, put together at each scrape."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import accumulate
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hotqueue.errors import ConfigurationError
from hotqueue.histogram import BOUNDS_S
from hotqueue.worker.book import Book
from hotqueue.worker.gauges import Gauges
from hotqueue.worker.keepers import Keepers
from hotqueue.worker.tally import OUTCOMES

if TYPE_CHECKING:
    from prometheus_client.core import Metric

BROKEN_OFF = ("crashed", "interrupted", "lost")  # runs whose child ended
# Of ended children, told of from the start: `increase` does not see a series that begins with 1.
CAUSES = ("exit code 0", "exit code 1", "SIGKILL", "SIGKILL, out of memory", "SIGSEGV")
STATES = ("starting", "idle", "busy", "stopping")  # of children
_LES = [*map(str, BOUNDS_S), "+Inf"]


def library(name: str = "core") -> ModuleType:
    """Return a module of the client library. Raises ConfigurationError where that is not installed."""
    try:
        return import_module(f"prometheus_client.{name}")
    except ImportError as error:
        msg = "--metrics needs prometheus_client: pip install 'hotqueue[metrics]'"
        raise ConfigurationError(msg) from error


class Metrics:
    """A collector for a registry of `prometheus_client`. The main loop brings it up to date."""

    def __init__(self, book: Book) -> None:
        """Raises ConfigurationError without the client library."""
        self._core = library()
        self._book = book
        self._gauges: Gauges | None = None
        self.record: Mapping[str, Any] = {}  # what the status file says

    def update(self, record: Mapping[str, Any], keepers: Keepers | None) -> None:
        """Take what the worker is like now, and who keeps what serves."""
        self.record = record
        if keepers is not None and (self._gauges is None or self._gauges.keepers is not keepers):
            self._gauges = Gauges(keepers)

    def collect(self) -> Iterator["Metric"]:
        """Yield the families. Called in the thread that serves them."""
        yield from self._of_messages()
        yield from self._of_queues()
        yield from self._of_children()

    def _of_messages(self) -> Iterator["Metric"]:
        runs = self._counter("messages", "How runs of messages ended", "queue", "handler", "outcome")
        took = self._histogram("handler_seconds", "How long handlers ran")
        waited = self._histogram("wait_seconds", "From enqueueing to the start of the first run")
        for key, counted in sorted(self._book.totals().items()):
            for outcome in OUTCOMES:
                runs.add_metric((*key, outcome), counted.ended(outcome))
            for what in BROKEN_OFF:
                runs.add_metric((*key, what), self._book.broken_off[*key, what])
            took.add_metric(key, _cumulative(counted.durations), counted.duration_s)
            waited.add_metric(key, _cumulative(counted.waits), counted.wait_s)
        yield from (runs, took, waited)

    def _of_queues(self) -> Iterator["Metric"]:
        holds = self._gauge("queue_messages", "Messages of a queue", "queue", "state")
        oldest = self._gauge("oldest_seconds", "Age of the next message; longest run here", "queue", "state")
        for each in self._gauges.look() if self._gauges is not None else ():
            for state in ("waiting", "in_flight", "delayed", "dead"):
                holds.add_metric((each.queue, state), getattr(each, state))
            if each.oldest_s is not None or not each.waiting:  # a bare body says nothing of its age
                oldest.add_metric((each.queue, "waiting"), each.oldest_s or 0.0)
            oldest.add_metric((each.queue, "in_flight"), self._running_s(each.queue))
        yield from (holds, oldest)

    def _of_children(self) -> Iterator["Metric"]:
        states = Counter(child["state"] for child in self.record["children"])
        there = self._gauge("children", "Child processes", "state")
        for state in STATES:
            there.add_metric((state,), states[state])
        ends = self._counter("child_exits", "Ended child processes", "cause")
        for cause, count in sorted({**dict.fromkeys(CAUSES, 0), **self._book.exits}.items()):
            ends.add_metric((cause,), count)
        yield from (there, ends)

    def _running_s(self, queue: str) -> float:
        """Return for how long the longest of the messages runs that children of this worker run."""
        running = [
            child["running_ms"] / 1000 for child in self.record["children"] if child.get("queue") == queue
        ]
        return max(running) + time.monotonic() - self.record["turned_s"] if running else 0.0

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return self._core.CounterMetricFamily(f"hotqueue_{name}", text, labels=labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return self._core.GaugeMetricFamily(f"hotqueue_{name}", text, labels=labels)

    def _histogram(self, name: str, text: str) -> Any:
        return self._core.HistogramMetricFamily(f"hotqueue_{name}", text, labels=("queue", "handler"))


def _cumulative(counts: Sequence[int]) -> list[tuple[str, int]]:
    return list(zip(_LES, accumulate(counts), strict=True))
