"""Children that run several messages at once, and what one of them does to the others."""

import signal

import pytest

from tests.support.shop import Shop
from tests.support.waiting import wait_until

KINDS = {"threads": "def", "tasks": "async def"}


@pytest.mark.parametrize("kind", KINDS)
def test_11b_one_that_kills_the_child_in_which_several_run_is_found_alone_and_no_other_is_blamed(
    shop: Shop, kind: str
) -> None:
    pause = "await asyncio.sleep" if kind == "tasks" else "time.sleep"
    shop.write(f"""
        import asyncio

        @queue.worker
        {KINDS[kind]} handle(message):
            first = current().attempt == 1
            note("begins", message, len(current().trail.crashes))
            if message == "p":
                while first and not (HERE / "all").exists():
                    {pause}(0.005)
                os.kill(os.getpid(), signal.SIGKILL)
            {pause}(60 if first else 0.05)
            note("ends", message)
    """)
    with shop.open("-c1", f"--{kind}=4", "--max-crashes=2") as worker:
        shop.queue.enqueue("p", "a", "b", "c")
        shop.wait_for_notes("begins p 0", "begins a 0", "begins b 0", "begins c 0")
        shop.allow("all")
        wait_until(shop.dead, 30, "it is buried")
        wait_until(lambda: sum("ends" in note for note in shop.notes()) == 3, 30, "the others are done")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        deaths = [death for death in worker.events("child.exited") if death["cause"] == "SIGKILL"]
    assert [death.get("running") for death in deaths] == [4, None, None]
    (trail,) = shop.dead()
    assert (len(trail.crashes), trail.reason["error"]) == (2, "SIGKILL")
    alone = "\n".join(shop.notes()[4:])
    for each in ("begins p 0", "begins p 1", *(f"begins {name} 0\nends {name}" for name in "abc")):
        assert alone.count(each) == 1


MALTREATED = {
    "forks and comes back twice": "os.fork()",
    "forks and lets the copy exit": "os.fork() or sys.exit(3)",
    "closes all descriptors": "os.closerange(3, 1000)",
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("how", MALTREATED)
def test_35b_a_child_of_threads_that_a_handler_maltreats_survives_or_is_replaced(
    shop: Shop, how: str
) -> None:
    shop.write(f"""
        @queue.worker
        def handle(message):
            note(message)
            if message == "bad" and current().attempt == 1:
                {MALTREATED[how]}
    """)
    shop.queue.enqueue("a", "bad", "b", *range(20))
    with shop.open("-c1", "--threads=3") as worker:
        expected = {"a", "b", "bad", *map(str, range(20))}
        wait_until(lambda: set(shop.notes()) == expected, 20, "all are run")
        wait_until(lambda: shop.in_flight() == 0, 20)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        wait_until(lambda: not worker.left(), 20, "nobody is left")
    assert len(shop.queue) == 0
    assert shop.dead() == []
