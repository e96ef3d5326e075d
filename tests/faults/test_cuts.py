"""Rows 22, 22b and 22c: connections that are cut or go silent, commands that come late, a Redis long away.

What each single command of a consumer suffers, and what each late one does, is tried one by one in
`tests/integration/test_at_least_once.py` and `test_at_most_once.py`; clocks of the server that jump, in
`tests/integration/test_upkeep.py`.
"""

import hashlib
import os
import signal
import time
from importlib.resources import files
from pathlib import Path

import pytest

from tests.support.commands import Running
from tests.support.leases import LAPSED_FOR_S, LEASE_S, on_another_machine, short_leases
from tests.support.proxy import Point, Proxy, proxy_to
from tests.support.servers import LiveServer
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

POINTS: list[Point] = ["before the request", "inside the request", "before the reply", "inside the reply"]
# Imported before the modules that take these by name.
IMPATIENT = """
from hotqueue import connection, waiting

connection.CONSUMER_TIMEOUT_S = 0.5
waiting.LONGEST_S, waiting.REPLY_MARGIN_S = 1.0, 0.5
"""
# All keepers are back within a fraction of LAPSED_FOR_S, as the real ones are.
PROMPT = """
from hotqueue.worker import keeper

keeper.RETRY_S = (0.05, 0.1)
"""
# What is held back comes before the list is swept to which it goes, on a busy machine too.
LONG_LEASES = """
for module in (upkeep, at_least_once, caretaker):
    module.LEASE_MS = 8000
"""
GATED = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message)
        wait_for(f"go {message}")
        note("ended", message)
"""
NOTES = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note(message)
"""


def sent_as(command: str) -> bytes:
    """By what it is known on the wire: a script, in small letters, by its hash."""
    if command.isupper():
        return command.encode()
    source = files("hotqueue").joinpath("lua", f"{command}.lua").read_bytes()
    return hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()


def is_waiting(server: LiveServer) -> bool:
    return bool(server.info["blocked_clients"])


def stop(worker: Running) -> None:
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    ("delivery", "command"),
    [("at-least-once", "BLMOVE"), ("at-least-once", "take"), ("at-most-once", "BLPOP")],
    indirect=["delivery"],
)
def test_22_a_connection_that_is_cut_loses_one_message_at_most_and_that_is_logged(
    shop: Shop, delivery: str, point: Point, command: str
) -> None:
    shop.write(NOTES)
    with proxy_to(shop.server.port) as proxy, shop.open("-c1", env={"HOTQUEUE_URL": proxy.url}) as worker:
        ready(worker)
        shop.queue.enqueue("first")
        shop.wait_for_notes("first")
        wait_until(lambda: is_waiting(shop.server))
        proxy.harm(point, on=sent_as(command))  # the wait that is under way is not harmed, but the next
        shop.queue.enqueue("before it")
        wait_until(lambda: "before it" in shop.notes())
        wait_until(lambda: worker.events("redis.lost") or is_waiting(shop.server))
        shop.queue.enqueue("at the cut")
        wait_until(lambda: worker.events("redis.lost"), 20, "the loss is logged")
        shop.queue.enqueue("last")
        wait_until(lambda: "last" in shop.notes(), 20, "it goes on")
        stop(worker)
        assert worker.events("redis.back")
    sent = ["first", "before it", "at the cut", "last"]
    notes = shop.notes()
    lost = [message for message in sent if message not in notes]
    assert notes == [message for message in sent if message in notes]
    assert len(lost) <= (1 if delivery == "at-most-once" and "reply" in point else 0)
    assert len(shop.queue) == shop.in_flight() == 0


@pytest.fixture
def impatient(shop: Shop, tmp_path: Path) -> Shop:
    """A shop with short timeouts and leases."""
    shop.env |= short_leases(tmp_path)
    patches = tmp_path / "patches" / "sitecustomize.py"
    patches.write_text(IMPATIENT + patches.read_text(encoding="utf-8") + PROMPT, encoding="utf-8")
    return shop


def freeze(shop: Shop, proxy: Proxy, worker: Running, on: bytes) -> None:
    """Have a connection of the child go silent at a command, and wait until the child has given it up."""
    proxy.harm("freeze", on=on)
    shop.queue.enqueue("a")
    shop.allow("go a")
    wait_until(lambda: worker.events("redis.lost"), 20, "the child gives it up")
    wait_until(lambda: worker.events("redis.back"), 20, "the child goes on")


@pytest.mark.parametrize("command", ["BLMOVE", "take"])
def test_22_what_is_enqueued_while_a_connection_is_a_black_hole_is_done_on_another(
    impatient: Shop, tmp_path: Path, command: str
) -> None:
    """And 22b: what was held in the hole comes late, and neither loses a message nor keeps one."""
    shop = impatient
    with (tmp_path / "patches" / "sitecustomize.py").open("a") as patches:
        patches.write(LONG_LEASES)
    shop.write(GATED)
    with proxy_to(shop.server.port) as proxy, shop.open("-c1", env={"HOTQUEUE_URL": proxy.url}) as worker:
        ready(worker)
        freeze(shop, proxy, worker, sent_as(command))
        wait_until(lambda: "ended a" in shop.notes())
        shop.queue.enqueue("b")
        wait_until(lambda: "began b" in shop.notes(), 20, "the child is busy")
        shop.queue.enqueue("c", "d")
        clients = shop.server.info["connected_clients"]
        proxy.thaw()
        if command == "BLMOVE":
            wait_until(lambda: len(shop.queue) == 1, what="a BLMOVE cannot be fenced: it has caught one")
        else:
            wait_until(
                lambda: shop.server.info["connected_clients"] < clients, what="the late command has run"
            )
            assert len(shop.queue) == 2
        for message in "bcd":
            shop.allow(f"go {message}")
        wait_until(lambda: {"ended b", "ended c", "ended d"} <= set(shop.notes()), 20, "all is done")
        wait_until(lambda: len(shop.queue) == shop.in_flight() == 0)
        stop(worker)
    assert sorted(shop.notes()) == sorted(f"{word} {m}" for m in "abcd" for word in ("began", "ended"))


def test_22b_a_retirement_that_comes_late_takes_nothing_from_whoever_runs_it_now(impatient: Shop) -> None:
    shop = impatient
    shop.write(GATED)
    with proxy_to(shop.server.port) as proxy, shop.open("-c1", env={"HOTQUEUE_URL": proxy.url}) as worker:
        (child,) = ready(worker)
        shop.queue.enqueue("a")
        shop.wait_for_notes("began a")
        proxy.harm("freeze", on=sent_as("retire"))
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: worker.events("message.released"), 20, "another try gives it back")
        shop.wait_for_notes("began a", "began a")
        clients = shop.server.info["connected_clients"]
        proxy.thaw()
        wait_until(lambda: shop.server.info["connected_clients"] < clients, what="the late command has run")
        assert shop.in_flight() == 1
        shop.allow("go a")
        shop.wait_for_notes("began a", "began a", "ended a")
        wait_until(lambda: shop.in_flight() == 0)
        assert not worker.events("claim.lost")
        stop(worker)
    assert len(shop.queue) == 0


def test_22c_a_redis_that_was_away_for_longer_than_a_lease_releases_nobody_s_running_work(
    impatient: Shop, own: LiveServer
) -> None:
    shop = impatient
    shop.write(GATED)
    shop.queue.enqueue("a", "b")
    with (
        shop.open("-c1", env=on_another_machine("a")) as first,
        shop.open("-c1", env=on_another_machine("b")) as second,
    ):
        shop.wait_for_notes("began a", "began b")
        own.stop()
        passes(2 * LEASE_S)
        own.start()
        wait_until(lambda: first.events("redis.back") and second.events("redis.back"), 30, "both are back")
        passes(2 * (LEASE_S + LAPSED_FOR_S))
        assert sorted(shop.notes()) == ["began a", "began b"]
        shop.allow("go a")
        shop.allow("go b")
        shop.wait_for_notes("began a", "began b", "ended a", "ended b")
        wait_until(lambda: shop.in_flight() == 0, 20, "both are acknowledged")
        for worker in (first, second):
            assert worker.events("message.released") == worker.events("claim.lost") == []


def passes(seconds: float) -> None:
    """A time in which something must not happen."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 10)
