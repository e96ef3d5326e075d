"""`--metrics`: what Prometheus is told, and probes; and that no count goes back, is lost or counted twice."""

import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hotqueue import HotQueue
from tests.support.servers import LiveServer, free_port, fresh_server
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

Sample = tuple[str, frozenset[tuple[str, str]]]
HANDLER = """
    @queue.worker(retries=1, backoff=0.01)
    def handle(message):
        note("began", message)
        if message == "fail":
            raise ValueError
        if message == "wait":
            wait_for("go")
"""


class Scraped(dict[Sample, float]):
    """All samples of one scrape."""

    def of(self, name: str, **labels: str) -> float:
        """The sum of those that have these labels."""
        wanted = set(labels.items())
        return sum(
            value for (each, has), value in self.items() if each == f"hotqueue_{name}" and wanted <= has
        )


@pytest.fixture
def port() -> int:
    return free_port()


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scrape(port: int) -> Scraped:
    families = text_string_to_metric_families(asked(port, "metrics")[1])
    return Scraped(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
    )


def ends(scraped: Mapping[Sample, float]) -> dict[str, float]:
    """How often runs ended in which way, without those that never happened."""
    return {
        dict(labels)["outcome"]: value
        for (name, labels), value in scraped.items()
        if name == "hotqueue_messages_total" and value
    }


def test_a_scrape_tells_of_messages_queues_and_children(shop: Shop, port: int) -> None:
    shop.write(HANDLER)
    with shop.open("-c2", f"--metrics={port}") as worker:
        ready(worker, 2)
        for message in ("a", "b", "fail", "wait"):
            shop.queue.enqueue(message)
        shop.queue.send("later", delay=600)
        wait_until(lambda: ends(scrape(port)) == {"done": 2, "retried": 1, "buried": 1}, 20, "all have ended")
        wait_until(lambda: scrape(port).of("children", state="busy") == 1, 20, "the children are known")
        expected = {"waiting": 0, "in_flight": 1, "delayed": 1, "dead": 1}
        wait_until(lambda: held(scrape(port)) == expected, 20, "the queue is known")
        found = scrape(port)
        here = {"queue": "jobs", "handler": "handle"}
        assert found.of("handler_seconds_count", **here) == found.of("handler_seconds_bucket", le="+Inf") == 4
        assert found.of("wait_seconds_count", **here) == 3  # a retry is no first run
        assert 0 < found.of("handler_seconds_sum") < 20
        assert 0 < found.of("wait_seconds_sum") < 20
        assert found.of("oldest_seconds", queue="jobs", state="in_flight") > 0
        states = ("starting", "idle", "busy", "stopping")
        assert [found.of("children", state=state) for state in states] == [0, 1, 1, 0]
        shop.allow("go")


def held(found: Scraped) -> dict[str, float]:
    """What the queue holds."""
    states = ("waiting", "in_flight", "delayed", "dead")
    return {state: found.of("queue_messages", queue="jobs", state=state) for state in states}


@pytest.mark.parametrize("serving", ["at-least-once", "at-most-once"])
def test_no_count_goes_back_is_lost_or_counted_twice_by_kills_recycling_and_reloads(
    shop: Shop, port: int, serving: str
) -> None:
    shop.env["DELIVERY"] = serving
    shop.write("""
        @queue.worker(delivery=DELIVERY)
        def handle(message):
            time.sleep(0.002)
            if message % 50 == 7 and (HERE / str(message)).exists() is False:
                (HERE / str(message)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            note(message)
    """)
    killed = 400 // 50
    before: dict[Sample, float] = {}

    def scraped() -> dict[str, float]:
        """Scrape, and see that nothing went back."""
        now = scrape(port)
        counters = {key: value for key, value in now.items() if re.search("_(total|count|bucket)$", key[0])}
        assert not {key for key, value in before.items() if counters.get(key, 0) < value}
        before.update(counters)
        return ends(now)

    with shop.open("-c2", f"--metrics={port}", "--max-messages=15", "--max-crashes=9") as worker:
        ready(worker, 2)
        for part in range(2):
            shop.queue.enqueue(*range(200 * part, 200 * (part + 1)))
            worker.signal(signal.SIGHUP)
            wait_until(
                lambda part=part: scraped() and worker.events("supervisor.reloaded")[part:], 60, "reloaded"
            )
        expected = (
            {"done": 400, "crashed": killed}
            if serving == "at-least-once"
            else {"done": 400 - killed, "lost": killed}
        )
        wait_until(lambda: scraped() == expected, 60, f"it counts {expected}")
        assert worker.events("child.recycled")
        wait_until(
            lambda: scrape(port).of("child_exits_total", cause="exit code 0") >= 3, 20, "some have left"
        )
        last = scrape(port)
        assert last.of("handler_seconds_count") == expected["done"]
        assert last.of("wait_seconds_count") == 400 - killed  # who was killed was not there to say
        assert last.of("child_exits_total", cause="SIGKILL") == killed
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert len(shop.notes()) == expected["done"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LiveServer]:
    """A server that a test may stop."""
    with fresh_server(tmp_path / "own") as server:
        yield server


def test_while_redis_says_nothing_or_is_away_counts_and_probes_are_answered(
    shop: Shop, own: LiveServer, port: int
) -> None:
    shop.write(HANDLER)
    with shop.open("-c1", f"--metrics={port}", "-u", own.url) as worker:
        ready(worker)
        HotQueue("jobs", url=own.url).enqueue("a")
        wait_until(lambda: ends(scrape(port)) == {"done": 1}, 20, "it is counted")
        yes = f"ready: pid {worker.pid}, running, 1 of 1 children ready\n"
        wait_until(lambda: asked(port, "ready") == (200, yes), 20, "it is ready")
        os.kill(own.pid, signal.SIGSTOP)
        for _ in range(3):
            assert ends(scrape(port)) == {"done": 1}
        os.kill(own.pid, signal.SIGCONT)
        own.stop()
        wait_until(lambda: asked(port, "ready")[0] == 503, 30, "it is not ready")
        assert asked(port, "ready") == (503, "not ready: it does not reach Redis\n")
        assert asked(port, "live")[0] == 200
        assert ends(scrape(port)) == {"done": 1}
        assert asked(port, "favicon.ico")[0] == 404
        worker.signal(signal.SIGQUIT)
        worker.wait()


def test_who_connects_and_says_nothing_keeps_no_probe_waiting(shop: Shop, port: int) -> None:
    shop.write(HANDLER)
    with shop.open("-c1", f"--metrics={port}") as worker, ExitStack() as silent:
        ready(worker)
        for _ in range(10):  # each would be waited for in turn, for longer than `asked` waits
            silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert asked(port, "live")[0] == 200
        assert scrape(port)


def test_a_port_in_use_ends_the_worker_at_its_start(shop: Shop, port: int) -> None:
    shop.write("note('imported')", HANDLER)
    with socket.create_server(("127.0.0.1", port)):
        done = shop.run(env={"HOTQUEUE_METRICS": str(port)})
    assert done.returncode == 2
    assert done.stderr == (
        f"hotqueue-worker: --metrics cannot have 127.0.0.1:{port} (Address already in use):"
        " choose another address\n"
    )
    assert shop.notes() == []


def test_without_the_library_the_extra_is_named(shop: Shop, port: int) -> None:
    shop.write("raise ImportError", name="prometheus_client")
    done = shop.run(f"--metrics={port}", env={"PYTHONPATH": str(shop.folder)})
    assert done.returncode == 2
    assert done.stderr == (
        "hotqueue-worker: --metrics needs prometheus_client: pip install 'hotqueue[metrics]'\n"
    )
