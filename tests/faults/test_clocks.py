"""Row 29: the clock of a worker's machine jumps by a day.

Due times and leases are of the server's clock, waits of the monotonic one.
"""

import signal
import time
from pathlib import Path

import pytest

from tests.support.leases import SITECUSTOMIZE
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

JUMPS = """
import os, time

real, real_ns, day_s = time.time, time.time_ns, float(os.environ["TEST_CLOCK"])

def jumped():
    return os.path.exists(os.environ["TEST_JUMPED"])

time.time = lambda: real() + day_s * jumped()
time.time_ns = lambda: real_ns() + int(day_s * 1e9) * jumped()
"""


@pytest.mark.parametrize("day_s", [86_400, -86_400])
def test_29_a_clock_of_the_worker_that_jumps_by_a_day_has_no_effect(
    shop: Shop, tmp_path: Path, day_s: int
) -> None:
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "sitecustomize.py").write_text(JUMPS + SITECUSTOMIZE, encoding="utf-8")
    shop.env |= {
        "PYTHONPATH": str(patches),
        "TEST_CLOCK": str(day_s),
        "TEST_JUMPED": str(shop.folder / "jump"),
    }
    shop.write("""
        @queue.worker(backoff=0.3)
        def handle(message):
            note(message, current().attempt, round(time.time()))
            if message == "runs":
                wait_for("go")
            if message == "fails" and current().attempt <= 2:
                raise ValueError
            if message == "crashes" and current().attempt <= 2:
                os._exit(9)
    """)
    shop.queue.enqueue("runs")
    with shop.open("-c2") as worker:
        ready(worker, 2)
        wait_until(shop.notes)
        shop.queue.send("delayed", delay=0.5)
        shop.allow("jump")
        shop.queue.enqueue("fails", "crashes")
        expected = [
            "crashes 1",
            "crashes 2",
            "crashes 3",
            "delayed 1",
            "fails 1",
            "fails 2",
            "fails 3",
            "runs 1",
        ]
        wait_until(lambda: len(shop.notes()) == len(expected), 20, "what is due has run")
        shop.allow("go")
        wait_until(lambda: shop.in_flight() == len(shop.queue) == 0, 20, "all is done")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert "exit code 9" in [line["reason"] for line in worker.events("message.released")]
        assert worker.events("claim.lost") == []
    assert sorted(note.rpartition(" ")[0] for note in shop.notes()) == expected
    assert abs(int(shop.notes()[-1].split()[2]) - day_s - time.time()) < 3600, "the clock did jump"
    assert shop.dead() == []
