"""What a handler sees, and the kinds of handlers that a worker runs."""

import json
from datetime import UTC, datetime
from pathlib import Path

from hotqueue import HotQueue
from tests.support.servers import fresh_server
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until


def test_current_tells_a_handler_of_its_delivery_and_nothing_outside(shop: Shop) -> None:
    shop.write("""
        import json
        assert current() is None

        @queue.worker
        def handle(message):
            one = current()
            note(json.dumps([one.id, one.queue, one.attempt, one.headers, one.enqueued_at.isoformat()]))
    """)
    before = datetime.now(UTC)
    message_id = shop.queue.send("a", headers={"tenant": 7})
    assert shop.run("-c1", "-b").returncode == 0
    (note,) = shop.notes()
    found_id, queue, attempt, headers, enqueued_at = json.loads(note)
    assert (found_id, queue, attempt, headers) == (message_id, "jobs", 1, {"tenant": 7})
    assert abs((datetime.fromisoformat(enqueued_at) - before).total_seconds()) < 60


def test_a_bare_body_has_neither_id_nor_time(shop: Shop) -> None:
    shop.write("""
        queue.serializer = None

        @queue.worker
        def handle(message):
            note(message, current().id, current().enqueued_at)
    """)
    shop.server.admin.rpush("hotqueue:jobs", "from elsewhere")
    assert shop.run("-c1", "-b").returncode == 0
    assert shop.notes() == ["from elsewhere None None"]


def test_coroutines_share_one_event_loop_and_each_knows_its_own_delivery(shop: Shop) -> None:
    shop.write("""
        import asyncio

        loops = set()

        @queue.worker(retries=0)
        async def handle(message):
            await asyncio.sleep(0)
            loops.add(id(asyncio.get_running_loop()))
            note(message, current().id, len(loops))
            if message == 1:
                raise ValueError("one")
    """)
    ids = [shop.queue.send(number) for number in range(3)]
    assert shop.run("-c1", "-b").returncode == 0
    assert shop.notes() == [f"{number} {ids[number]} 1" for number in range(3)]
    assert [trail.reason["error"] for trail in shop.dead()] == ["ValueError: one"]


def test_a_method_of_an_object_is_a_handler(shop: Shop) -> None:
    shop.write("""
        class Greeter:
            def __init__(self, word):
                self.word = word

            @queue.worker
            def greet(self, name):
                note(self.word, name)

        greeter = Greeter("hello")
    """)
    shop.queue.enqueue("Ada")
    assert shop.run("-c1", "-b", target="tasks:greeter.greet").returncode == 0
    assert shop.notes() == ["hello Ada"]


def test_one_child_serves_many_queues_of_both_kinds(shop: Shop) -> None:
    shop.write("""
        def serve(number):
            @HotQueue(f"q{number}").worker(delivery="at-least-once" if number % 2 else "at-most-once")
            def handle(message):
                note(current().queue, message)

        for number in range(4):
            serve(number)
    """)
    for number in range(4):
        shop.queue_named(f"q{number}").enqueue(*range(20))
    with shop.open("-c2") as worker:
        expected = [f"q{number} {message}" for number in range(4) for message in range(20)]
        shop.wait_for_notes(*expected)
        for number in (2, 1, 3, 0):  # now out of the wait on all of them
            shop.queue_named(f"q{number}").enqueue("late")
            expected.append(f"q{number} late")
            shop.wait_for_notes(*expected)
        worker.process.terminate()
        assert worker.wait() == 0
    assert shop.in_flight() == 0


def test_queues_on_two_servers_are_served_by_one_worker(shop: Shop) -> None:
    other = shop.server.url.replace("/0", "/1")  # another database is another address
    shop.write("""
        there = HotQueue("there", url=os.environ["OTHER"])

        @queue.worker
        def here_it_is(message):
            there.enqueue(message)

        @there.worker
        def there_it_is(message):
            note(message)
    """)
    shop.queue.enqueue("a")
    assert shop.run("-c2", "-b", env={"OTHER": other}).returncode == 0
    assert shop.notes() == ["a"]
    assert len(HotQueue("there", url=other)) == 0


def test_a_server_that_is_away_does_not_hold_up_the_queues_on_another(
    shop: Shop, tmp_path: Path, delivery: str
) -> None:
    shop.write("""
        there = HotQueue("there", url=os.environ["OTHER"])

        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note(message)

        @there.worker(delivery=DELIVERY)
        def there_it_is(message):
            note(message)
    """)
    with (
        fresh_server(tmp_path / "other") as other,
        shop.open("-c1", env={"OTHER": other.url, "DELIVERY": delivery}) as worker,
    ):
        ready(worker)
        other.kill()
        wait_until(lambda: worker.events("redis.lost"), 20, "it is missed")
        for number in range(100):  # one by one, so that the child waits for each
            shop.queue.enqueue(number)
            shop.wait_for_notes(*map(str, range(number + 1)))
        other.start()
        HotQueue("there", url=other.url).enqueue("there")
        shop.wait_for_notes(*map(str, range(100)), "there")
        wait_until(
            lambda: [line for line in worker.events("redis.back") if "child" in line], 20, "it is back"
        )
        lost = [line for line in worker.events("redis.lost") if "child" in line]
        assert len(lost) == 1


def test_a_queue_that_is_no_list_does_not_hold_up_others(shop: Shop) -> None:
    shop.write("""
        broken = HotQueue("broken")

        @broken.worker
        def never(message): ...

        @queue.worker
        def handle(message):
            note(message)
    """)
    with shop.open("-c1", "-Q", "broken,jobs") as worker:
        ready(worker)
        shop.server.admin.set("hotqueue:broken", "text")
        for number in range(20):
            shop.queue.enqueue(number)
            shop.wait_for_notes(*map(str, range(number + 1)))


def test_a_handler_may_use_its_own_queue_and_threads(shop: Shop, delivery: str) -> None:
    shop.write("""
        import threading

        @queue.worker(delivery=DELIVERY)
        def handle(message):
            threads = [threading.Thread(target=queue.enqueue, args=(0,)) for _ in range(message)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            note(message)
    """)
    shop.queue.enqueue(5)
    assert shop.run("-c2", "-b").returncode == 0
    assert sorted(shop.notes()) == ["0"] * 5 + ["5"]
