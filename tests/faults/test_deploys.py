"""Row 12b: a message that takes longer than any worker lives is interrupted, and to blame for nothing."""

import signal

from tests.support.shop import Shop, gone
from tests.support.waiting import wait_until

DEPLOYS = 5
WARNED_AT = 3
HOSTS_LOST = 5


def test_12b_a_message_interrupted_by_five_deploys_and_five_lost_hosts_is_not_blamed(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            trail = current().trail
            note(message, trail.interruptions, trail.failures, len(trail.crashes))
            wait_for("go")
            note("done")
    """)
    shop.queue.enqueue("long")
    for deploy in range(DEPLOYS):
        with shop.open("-c1", "-t0.1") as worker:
            wait_until(lambda expected=deploy + 1: len(shop.notes()) == expected, 20, "it runs again")
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 1
            warned = [line["interruptions"] for line in worker.events("message.interrupted")]
            assert warned == ([deploy + 1] if deploy + 1 >= WARNED_AT else [])
    for lost in range(HOSTS_LOST):
        with shop.open("-c1") as worker:
            wait_until(lambda expected=DEPLOYS + lost + 1: len(shop.notes()) == expected, 20, "it runs again")
            worker.signal_group(signal.SIGKILL)
            gone(worker)
    shop.allow("go")
    assert shop.run("-c1", "-b").returncode == 0
    interrupted = [*range(DEPLOYS), *[DEPLOYS] * (HOSTS_LOST + 1)]
    assert shop.notes() == [*(f"long {count} 0 0" for count in interrupted), "done"]
    assert shop.dead() == []
    assert len(shop.queue) == shop.in_flight() == 0
