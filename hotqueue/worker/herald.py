"""The herald: tells everybody how the worker stands: process title, status file, systemd, Redis."""

import os
import time
from dataclasses import asdict
from typing import Any

from hotqueue import __version__, status
from hotqueue.worker import title
from hotqueue.worker.book import Book
from hotqueue.worker.crew import Crew
from hotqueue.worker.keepers import Keepers
from hotqueue.worker.metrics import Metrics
from hotqueue.worker.publication import Publication
from hotqueue.worker.settings import Settings
from hotqueue.worker.status_file import StatusFile
from hotqueue.worker.stopping import Stopping
from hotqueue.worker.systemd import Notifier

EVERY_S = 1.0


class Herald:
    """Shows each pass of the main loop what it came to. It is told nothing, and looks for itself."""

    def __init__(self, settings: Settings, stopping: Stopping, book: Book) -> None:
        """Nothing is shown yet. Raises ConfigurationError if the metrics cannot be served."""
        self._stopping = stopping
        self._targets = " ".join(settings.targets)
        self._file = StatusFile(settings.name, settings.status_file)
        self.publication = Publication()
        self.systemd = Notifier(os.environ)
        self._itself = {
            "pid": os.getpid(),
            "host": status.default_name(),
            "name": settings.name,
            "targets": self._targets,
            "version": __version__,
            "started_ms": round(time.time() * 1000),
        }
        self._metrics: Metrics | None = None
        if settings.metrics is not None and not settings.check:
            # Only here: http.server takes longer to import than most of what else a start does.
            from hotqueue.worker.metrics_server import MetricsServer  # noqa: PLC0415

            self._metrics = Metrics(book)
            self._server = MetricsServer(*settings.metrics, self._metrics)
        self._essence: tuple[object, ...] = ()
        self._again_s = 0.0

    def show(self, crew: Crew, keepers: Keepers | None, *, is_reloading: bool, refused: str | None) -> None:
        """Show it where it is looked at often, and once a second or at a change of what matters elsewhere.

        `keepers` are those of the generation that serves; `refused` says of what the last reload failed.
        """
        census = crew.census()
        title.supervisor(self._targets, census.busy, census.size)
        self.systemd.feed()
        phase = self._phase(crew, serving=keepers is not None, reloading=is_reloading)
        has_redis = keepers is not None and keepers.have_redis
        essence, now_s = (phase, has_redis, bool(census.ready)), time.monotonic()
        if essence == self._essence and now_s < self._again_s:
            return
        self._essence, self._again_s = essence, now_s + EVERY_S
        no_redis = "Redis is not reached" if keepers is not None and not has_redis else None
        self.systemd.tell(phase, census, no_redis or refused)
        record: dict[str, Any] = {
            **self._itself,
            "turned_s": now_s,
            "at_ms": round(time.time() * 1000),
            "phase": phase,
            "quiet": crew.is_quiet,  # while it reloads, too
            **asdict(census),
            "redis": has_redis,
            "children": crew.roll(),
        }
        self._file.write(record)
        self.publication.update(record, crew.deaths)
        if self._metrics is not None:
            self._metrics.update(record, keepers)

    def begin(self) -> None:
        """Answer who asks. There is something to `show` already."""
        if self._metrics is not None:
            self._server.start()

    def end(self) -> None:
        """The worker ends."""
        self._file.remove()
        self.systemd.close(self._stopping.verdict)

    def _phase(self, crew: Crew, *, serving: bool, reloading: bool) -> str:
        if self._stopping.is_under_way:
            return "stopping"
        if not serving:
            return "starting"
        if reloading:
            return "reloading"
        return "quiet" if crew.is_quiet else "running"
