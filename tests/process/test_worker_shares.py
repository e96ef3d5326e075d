"""Shares of queues under load: several children that claim several messages at once keep to the weights."""

from hotqueue.pace import MOST
from tests.support.shop import Shop

SHARES = """
    os.register_at_fork(after_in_child=lambda: globals().update(ran=os.open(HERE / "ran", APPEND)))
    APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    queues = {name: HotQueue(name) for name in "ab"}

    def handler(name):
        @queues[name].worker(delivery=DELIVERY)
        def handle(message):
            os.write(ran, name.encode())  # no note, which would take so long that claims were small
        return handle

    handlers = [handler(name) for name in queues]
"""
WEIGHT, MESSAGES = 5, 3000
# So far both queues have some for whoever asks: what is left of `a` is more than the claims of both children.
SURE = (MESSAGES - 2 * MOST) * (WEIGHT + 1) // WEIGHT
TOLERANCE = 0.05


def test_the_shares_of_two_full_queues_are_their_weights(shop: Shop, delivery: str) -> None:
    shop.write(SHARES)
    for name in "ab":
        shop.queue_named(name).enqueue(*range(MESSAGES))
    assert shop.run("-c2", "-b", "-Q", f"a={WEIGHT},b=1", target="tasks:handlers").returncode == 0
    ran = (shop.folder / "ran").read_text()
    assert (ran.count("a"), ran.count("b")) == (MESSAGES, MESSAGES)
    while_both_had_some = ran[:SURE]
    share = while_both_had_some.count("a") / len(while_both_had_some)
    assert abs(share - WEIGHT / (WEIGHT + 1)) <= TOLERANCE
    middle = ran[600:1800]
    assert abs(middle.count("a") / len(middle) - WEIGHT / (WEIGHT + 1)) <= TOLERANCE
