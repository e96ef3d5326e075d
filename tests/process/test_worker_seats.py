"""A child that runs several messages at once: in threads, or as tasks on one event loop."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from hotqueue import status
from tests.support.commands import Running
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

ENOUGH = 4  # messages that run at once
KINDS = {"threads": "def", "tasks": "async def"}

# Handlers that wait for each other, and for nobody else.
TOGETHER = """
    import asyncio, logging, threading

    log = logging.getLogger("tasks")
    present = []
    barrier = threading.Barrier(4)

    def meet():
        barrier.wait(60)

    async def meet_async():
        present.append(1)
        while len(present) < 4:
            await asyncio.sleep(0.005)

    async def wait_async(name):
        while not (HERE / name).exists():
            await asyncio.sleep(0.005)
"""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def serve(shop: Shop, kind: str, body: str, options: str = "") -> None:
    """A handler of this kind; in the body, `wait(...)` and `meet()` are those of the kind."""
    waits = {"wait(": "await wait_async(", "meet()": "await meet_async()"} if kind == "tasks" else {}
    waits = waits or {"wait(": "wait_for("}
    for short, long in waits.items():
        body = body.replace(short, long)
    shop.write(TOGETHER, f"@queue.worker({options})\n{KINDS[kind]} handle(message):\n{body}")


def stop(worker: Running, code: int = 0) -> None:
    worker.signal(signal.SIGTERM)
    assert worker.wait() == code


@pytest.mark.parametrize("option", KINDS)
def test_messages_run_at_once_each_with_its_own_delivery_and_log_lines(
    shop: Shop, kind: str, option: str
) -> None:
    """Async handlers under --threads, each on a loop of its thread, and plain ones under --tasks too."""
    if kind == "tasks" and option == "threads":
        meeting = "    await asyncio.to_thread(meet)\n"
    else:
        meeting = "    meet()\n"
    body = meeting + "    log.warning('here')\n    note(message, current().id, current().queue)\n"
    serve(shop, kind, body)
    with shop.open("-c1", f"--{option}=4") as worker:
        ids = [shop.queue.send(number) for number in range(ENOUGH)]
        shop.wait_for_notes(*(f"{number} {message_id} jobs" for number, message_id in enumerate(ids)))
        wait_until(lambda: len(worker.events("message.done")) == ENOUGH, 20)
        for event in ("message.done", "here"):
            lines = worker.events(event)
            assert {line["id"] for line in lines} == set(ids)
            assert {(line["child"], line["handler"]) for line in lines} == {(1, "handle")}
        stop(worker)
    assert shop.in_flight() == shop.consumers() == 0


def test_a_stop_lets_all_finish(shop: Shop, kind: str) -> None:
    serve(shop, kind, "    note('begun', message)\n    wait('go')\n    note('ended', message)\n")
    with shop.open("-c1", f"--{kind}=4") as worker:
        shop.queue.enqueue(*range(6))
        shop.wait_for_notes(*(f"begun {number}" for number in range(ENOUGH)))
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.events("supervisor.stopping"), 20)
        shop.allow("go")
        assert worker.wait() == 0
    begun, ended = (sum(word in note for note in shop.notes()) for word in ("begun", "ended"))
    assert begun == ended >= ENOUGH
    assert len(shop.queue) + ended == 6
    assert shop.in_flight() == shop.consumers() == 0


def test_what_is_left_at_the_deadline_is_killed_told_and_handed_back_and_nobody_blamed(shop: Shop) -> None:
    serve(shop, "threads", "    note(message, len(current().trail.crashes))\n    wait('go')\n")
    ids = [shop.queue.send(number) for number in range(ENOUGH)]
    with shop.open("-c1", "--threads=4", "-t", "0.3") as worker:
        wait_until(lambda: len(shop.notes()) == ENOUGH, 20)
        stop(worker, code=1)
        (exited,) = worker.events("child.exited")
        (stopped,) = worker.events("supervisor.stopped")
    assert (exited["running"], set(exited["running_ids"])) == (ENOUGH, set(ids))
    assert (stopped["killed"], stopped["handed_back"]) == (ENOUGH, ENOUGH)
    assert len(shop.queue) == ENOUGH
    assert shop.in_flight() == shop.consumers() == 0
    shop.allow("go")
    assert shop.run("-c1", "-b").returncode == 0
    assert Counter(shop.notes()) == {f"{number} 0": 2 for number in range(ENOUGH)}


def test_an_idle_child_parks_as_many_connections_as_if_it_had_one_seat(shop: Shop, kind: str) -> None:
    serve(shop, kind, "    note(message)\n")
    with (shop.folder / "tasks.py").open("a") as module:
        module.write("\n@HotQueue('other').worker\ndef other(message):\n    note(message)\n")

    def parked() -> int:
        return int(shop.server.admin.info()["blocked_clients"])

    with shop.open("-c2", f"--{kind}=6") as worker:
        ready(worker, 2)
        wait_until(lambda: parked() == 4, 20, "one for each queue and child")
        shop.queue.enqueue(*range(8))
        shop.queue_named("other").enqueue("a")
        wait_until(lambda: len(shop.notes()) == 9, 20)
        wait_until(lambda: parked() == 4, 20, "it is so again")
        stop(worker)
        assert not worker.events("redis.lost")


def test_nobody_waits_behind_a_slow_message_while_another_seat_idles(shop: Shop, kind: str) -> None:
    many, slow = 600, 400
    serve(shop, kind, f"    note(message)\n    if message == {slow}:\n        wait('go')\n")
    with shop.open("-c1", f"--{kind}=3") as worker:
        ready(worker)
        shop.queue.enqueue(*range(many))
        wait_until(lambda: len(shop.notes()) == many, 30, "all have begun, though one has not ended")
        shop.allow("go")
        wait_until(lambda: shop.in_flight() == 0, 20)
        stop(worker)
        assert not worker.events("claim.lost")
    assert sorted(shop.notes()) == sorted(map(str, range(many)))


def test_a_soft_limit_interrupts_just_the_message_that_is_over_it(shop: Shop, kind: str) -> None:
    shop.write(
        TOGETHER,
        f"""
        from hotqueue import SoftTimeLimit

        @queue.worker(soft_time_limit=1.0, retries=0)
        {KINDS[kind]} handle(message):
            note("begun", message)
            if message == "long":
                try:
                    {"await wait_async" if kind == "tasks" else "wait_for"}("never")
                finally:
                    note("left", message)
            {"await wait_async" if kind == "tasks" else "wait_for"}(message)
            note("ended", message)
        """,
    )
    for name in ("a", "b"):
        shop.allow(name)
    with shop.open("-c1", f"--{kind}=4") as worker:
        shop.queue.enqueue("long")
        wait_until(lambda: "left long" in shop.notes(), 20)
        wait_until(shop.dead, 20, "it has failed")
        shop.queue.enqueue("a", "b")
        wait_until(lambda: {"ended a", "ended b"} <= set(shop.notes()), 20)
        stop(worker)
        assert not worker.events("child.killed")
    (trail,) = shop.dead()
    assert trail.reason["error"] == "SoftTimeLimit: it has run longer than its soft time limit"
    assert (trail.failures, trail.interruptions) == (1, 0)


def test_a_hard_limit_is_a_failure_of_what_overran_and_an_interruption_of_the_others(shop: Shop) -> None:
    shop.write("""
        other = HotQueue("other")

        @queue.worker(time_limit=1.5, retries=0)
        def handle(message):
            note(message)
            wait_for("never")

        @other.worker
        def patient(message):
            note(message, current().trail.interruptions, current().trail.failures)
            if not current().trail.interruptions:
                wait_for("never")
    """)
    with shop.open("-c1", "--threads=4") as worker:
        shop.queue_named("other").enqueue("a", "b")
        wait_until(lambda: len(shop.notes()) == 2, 20)
        over = shop.queue.send("c")
        wait_until(shop.dead, 20, "it has failed")
        shop.wait_for_notes("a 0 0", "b 0 0", "c", "a 1 0", "b 1 0")
        (killed,) = wait_until(lambda: worker.events("child.killed"))
        assert (killed["reason"], killed["id"], killed["running"]) == ("over its time limit", over, 3)
        stop(worker)
    (trail,) = shop.dead()
    assert "TimeLimit: it ran longer than 1.5 s" in str(trail.reason["error"])


def test_new_code_takes_over_while_old_seats_finish(shop: Shop) -> None:
    serve(shop, "threads", "    note('old', message)\n    wait('go')\n    note('ended', message)\n")
    with shop.open("-c1", "--threads=2") as worker:
        shop.queue.enqueue(1, 2)
        shop.wait_for_notes("old 1", "old 2")
        serve(shop, "threads", "    meet()\n    note('new', message)\n")
        worker.signal(signal.SIGHUP)
        wait_until(lambda: worker.events("supervisor.reloaded"), 20)
        shop.allow("go")
        wait_until(lambda: len(worker.events("child.exited")) == 1, 20)
        stop(worker)
    assert Counter(shop.notes()) == Counter(["old 1", "old 2", "ended 1", "ended 2"])
    assert shop.in_flight() == shop.consumers() == 0


def test_what_a_child_runs_is_told_and_its_stacks_are_those_of_all_threads(
    shop: Shop, tmp_path: Path
) -> None:
    serve(shop, "threads", "    note(message)\n    wait('go')\n")
    path = tmp_path / "status.json"
    with shop.open("-c1", "--threads=3", "--status-file", str(path)) as worker:
        ids = [shop.queue.send(number) for number in range(2)]
        wait_until(lambda: len(shop.notes()) == 2, 20)
        child = ready(worker)[0]

        def said() -> dict[str, object]:
            children = status.read(str(path))["children"]
            return dict(children[0]) if children else {}

        wait_until(lambda: said().get("running") == 2, 20)
        assert (said()["state"], said()["handler"], said()["id"] in ids) == ("busy", "handle", True)
        title = Path(f"/proc/{child}/cmdline")
        wait_until(lambda: b"2 running, jobs handle since" in title.read_bytes(), 20)
        worker.signal(signal.SIGUSR1)
        wait_until(lambda: worker.events("child.stack"), 20)
        (stack,) = worker.events("child.stack")
        assert stack["running"] == 2
        assert stack["stack"].count("in handle") == 2
        shop.allow("go")
        wait_until(lambda: said()["state"] == "idle", 20)
        wait_until(lambda: title.read_bytes().rstrip(b"\0").endswith(b"child 1 idle"), 20)
        stop(worker)


def test_at_most_once_messages_run_at_once_and_each_once(shop: Shop, kind: str) -> None:
    serve(shop, kind, "    note(message)\n", 'delivery="at-most-once"')
    shop.queue.enqueue(*range(200))
    assert shop.run("-c2", f"--{kind}=8", "-b").returncode == 0
    assert sorted(shop.notes()) == sorted(map(str, range(200)))


def test_options_are_bounded_and_exclude_each_other(shop: Shop) -> None:
    shop.write("@queue.worker\ndef handle(message): pass")
    for options, said in {
        ("--threads=0",): "Invalid value for '--threads': 0 is not in the range 1<=x<=100.",
        ("--tasks=101",): "Invalid value for '--tasks': 101 is not in the range 1<=x<=100.",
        ("--threads=2", "--tasks=2"): "--threads and --tasks exclude each other:",
    }.items():
        done = shop.run(*options)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"hotqueue-worker: {said}")
    (shop.folder / "pyproject.toml").write_text("[tool.hotqueue]\ntasks = 3\n")
    done = shop.run(env={"HOTQUEUE_THREADS": "3"})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_task_that_exits_or_stops_the_loop_fails_alone(shop: Shop) -> None:
    serve(
        shop,
        "tasks",
        """
    if message == "exits":
        sys.exit(3)
    if message == "stops":
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
    await wait_async("go")
    note(message)
""",
        "retries=0",
    )
    with shop.open("-c1", "--tasks=4") as worker:
        shop.queue.enqueue("a", "exits", "stops", "b")
        wait_until(shop.dead, 20, "one has failed")
        shop.allow("go")
        shop.wait_for_notes("a", "b", "stops")
        stop(worker)
        (exited,) = worker.events("child.exited")
    assert exited["cause"] == "exit code 0"
    assert [trail.reason["error"] for trail in shop.dead()] == ["SystemExit: 3"]


def test_redis_that_goes_and_comes_is_told_once_for_a_child_and_nothing_is_lost(shop: Shop) -> None:
    serve(shop, "threads", "    note(message)\n    wait('go')\n")
    with (shop.folder / "tasks.py").open("a") as module:  # all have lost it before the first one has it back
        module.write("\nfrom hotqueue import consumer\nconsumer.BACK_OFF_S = (3.0, 30.0)\n")
    shop.allow("go")
    with shop.open("-c1", "--threads=4") as worker:
        ready(worker)
        shop.queue.enqueue(*range(8))
        wait_until(lambda: len(shop.notes()) == 8, 20)
        for client in shop.server.admin.client_list():
            if client["cmd"] != "client|list":
                shop.server.admin.client_kill_filter(_id=client["id"])
        shop.queue.enqueue(*range(8, 40))
        wait_until(lambda: len(set(shop.notes())) == 40, 20)
        wait_until(lambda: shop.in_flight() == 0, 20)
        children = [line for line in worker.events("redis.lost") if line.get("child")]
        assert len(children) <= 1
        stop(worker)
    assert shop.dead() == []


def test_children_of_a_killed_supervisor_finish_all_that_they_run(shop: Shop, kind: str) -> None:
    serve(shop, kind, "    note('begun', message)\n    wait('go')\n    note('ended', message)\n")
    with shop.open("-c1", f"--{kind}=3") as worker:
        shop.queue.enqueue(1, 2, 3)
        shop.wait_for_notes("begun 1", "begun 2", "begun 3")
        worker.process.kill()
        shop.allow("go")
        wait_until(lambda: not worker.left(), 20, "nobody is left")
    assert sorted(shop.notes())[3:] == ["ended 1", "ended 2", "ended 3"]
    assert len(shop.queue) == shop.in_flight() == 0


def test_a_quiet_worker_begins_nothing_in_any_seat_and_then_goes_on(shop: Shop, kind: str) -> None:
    serve(shop, kind, "    note(message)\n    wait('go')\n")
    with shop.open("-c1", f"--{kind}=4") as worker:
        shop.queue.enqueue(1, 2)
        shop.wait_for_notes("1", "2")
        worker.signal(signal.SIGTSTP)
        wait_until(lambda: worker.events("supervisor.quiet"), 20)
        wait_until(lambda: shop.server.admin.info()["blocked_clients"] == 0, 20, "nobody waits")
        shop.queue.enqueue(3, 4, 5)
        shop.allow("go")
        wait_until(lambda: len(worker.events("message.done")) == 2, 20)
        wait_until(lambda: shop.in_flight() == 0, 20)
        assert len(shop.queue) == 3
        worker.signal(signal.SIGCONT)
        shop.wait_for_notes("1", "2", "3", "4", "5")
        stop(worker)


def test_worn_out_children_are_replaced_without_a_loss(shop: Shop, kind: str) -> None:
    serve(shop, kind, "    note(message)\n    wait('go')\n")
    shop.allow("go")
    with shop.open("-c1", f"--{kind}=4", "--max-messages=20", "--prefetch=1") as worker:
        shop.queue.enqueue(*range(60))
        wait_until(lambda: worker.events("child.recycled"), 20)
        shop.queue.enqueue(*range(60, 100))
        shop.wait_for_notes(*map(str, range(100)))
        stop(worker)
    assert shop.in_flight() == shop.consumers() == 0
