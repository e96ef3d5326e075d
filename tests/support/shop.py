"""A folder with an application in it, a Redis, and workers that serve the application.

shop.write('''
    @queue.worker
    def handle(message):
        note(message)
        wait_for("go")
''')
shop.queue.enqueue("a")
with shop.open() as worker:
    shop.wait_for_notes("a")
    shop.allow("go")
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hotqueue import HotQueue
from hotqueue.envelope import trail_of
from hotqueue.trail import Trail
from tests.support.commands import Running, run, start
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until

NAME = "jobs"

# What every application here begins with. A note is one line, and so is written at once.
HEAD = """
import os, signal, sys, time
from pathlib import Path
from hotqueue import HotQueue, current

queue = HotQueue("jobs")
DELIVERY = os.environ.get("DELIVERY", "at-least-once")
HERE = Path(__file__).parent

def note(*words):
    with (HERE / "notes").open("a") as notes:
        notes.write(" ".join(map(str, words)) + "\\n")

def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.002)

"""


class Shop:
    """What a test needs to see messages handled by a real worker."""

    def __init__(self, folder: Path, server: LiveServer) -> None:
        self.folder = folder
        self.server = server
        self.env = {"HOTQUEUE_URL": server.url, "HOTQUEUE_LOG_LEVEL": "debug"}

    @property
    def queue(self) -> HotQueue:
        return self.queue_named(NAME)

    def queue_named(self, name: str, **options: Any) -> HotQueue:
        return HotQueue(name, url=self.server.url, **options)

    def write(self, *sources: str, name: str = "tasks") -> None:
        """Write a module of the application."""
        path = self.folder / f"{name}.py"
        path.write_text("\n".join([HEAD, *map(textwrap.dedent, sources)]), encoding="utf-8")

    def open(self, *options: str, target: str = "tasks", env: Mapping[str, str] | None = None) -> Running:
        """Start a worker."""
        return start("hotqueue-worker", target, *options, env=self.env | dict(env or {}), cwd=self.folder)

    def run(self, *options: str, target: str = "tasks", env: Mapping[str, str] | None = None) -> Any:
        """Run a worker to its end."""
        return run("hotqueue-worker", target, *options, env=self.env | dict(env or {}), cwd=self.folder)

    def notes(self) -> list[str]:
        """What handlers have noted so far."""
        path = self.folder / "notes"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def wait_for_notes(self, *expected: str) -> None:
        """Wait until there are just these notes, in any order."""
        wait_until(lambda: sorted(self.notes()) == sorted(expected), 20, f"handlers noted {expected}")

    def allow(self, name: str) -> None:
        """Let handlers go on that wait for `name`."""
        (self.folder / name).touch()

    def dead(self, name: str = NAME) -> list[Trail]:
        """The trails of the dead list, oldest first."""
        return [trail_of(raw) for raw in self.server.admin.zrange(f"{{hotqueue:{name}}}:dead", 0, -1)]

    def in_flight(self) -> int:
        """How many messages lie on lists of consumers."""
        keys = self.server.admin.keys("*:inflight:*")
        return sum(self.server.admin.llen(key) for key in keys)

    def consumers(self, name: str = NAME) -> int:
        """How many incarnations are registered."""
        return int(self.server.admin.zcard(f"{{hotqueue:{name}}}:consumers"))


def ready(worker: Running, children: int = 1) -> list[int]:
    """Wait until so many children were ready and the supervisor knows them; needs the level debug."""

    def pids() -> list[int]:
        known = {line["pid"] for line in worker.events("child.started")}
        return [line["pid"] for line in worker.events("child.ready") if line["pid"] in known]

    wait_until(lambda: len(pids()) >= children or worker.process.poll() is not None, 20, "children are ready")
    return pids()


def gone(worker: Running) -> None:
    """Wait until no process of the worker is left."""
    wait_until(lambda: not worker.left(), 20, "every process of the worker is gone")


@pytest.fixture
def shop(tmp_path: Path, server: LiveServer, redis_url: str) -> Shop:
    """An empty shop at the session's server."""
    return Shop(tmp_path, server)


@pytest.fixture
def anywhere(shop: Shop, any_server: LiveServer) -> str:
    """The shop on each kind of server that is installed."""
    shop.server = any_server
    shop.env["HOTQUEUE_URL"] = any_server.url
    return any_server.kind


@pytest.fixture(params=["adopted", "the template's"])
def parent(request: pytest.FixtureRequest, shop: Shop) -> str:
    """Whose the children are: the supervisor's, or, as where there is no subreaper, the template's."""
    if request.param != "adopted":
        shop.env["HOTQUEUE_NO_PRCTL"] = "1"
    return str(request.param)


@pytest.fixture(params=["at-least-once", "at-most-once"])
def delivery(request: pytest.FixtureRequest, shop: Shop) -> str:
    """Both ways to deliver; an application reads it as DELIVERY."""
    shop.env["DELIVERY"] = request.param
    return str(request.param)
