"""What it costs to put messages on a queue, one and many in one call, beside RPUSH of redis-py."""

import pickle
from collections.abc import Callable
from functools import partial
from itertools import repeat

from support import placement
from support.noop import QUEUE, WARM_UP
from support.options import parser, positive
from support.report import Contender, alternately, print_table, print_versions
from support.server import Server, private_server
from support.stopwatch import Measure, Stopwatch

from hotqueue import HotQueue

_pickled = partial(pickle.dumps, protocol=5)  # what HotQueue writes, too


def main() -> None:
    made = parser(__doc__, messages=5000)
    made.add_argument("--many", type=positive, default=100, help="messages in one call")
    options = made.parse_args()
    message, many = b"x" * options.payload, options.many
    with private_server(options.server, options.aof) as server, server.client() as client:
        print_versions(server.version, options.aof, f"messages of {options.payload} bytes")
        queue = HotQueue(QUEUE, url=server.url)
        several = [message] * many
        one = {
            "redis-py, rpush": lambda: client.rpush(QUEUE, _pickled(message)),
            "enqueue": lambda: queue.enqueue(message),
            "send": lambda: queue.send(message),
        }
        all_at_once = {
            "redis-py, rpush": lambda: client.rpush(QUEUE, *map(_pickled, several)),
            "enqueue": lambda: queue.enqueue(*several),
            "batch": lambda: _batch(queue, several),
        }
        calls = max(options.messages // many, 1)
        for where in placement.possible():
            with placement.placed(where, server.pid):
                _compare(f"one in a call; {where}", server, one, options.messages, options.rounds)
                _compare(f"{many} in a call; {where}", server, all_at_once, calls, options.rounds)


def _batch(queue: HotQueue, messages: list[bytes]) -> None:
    with queue.batch(count=len(messages)) as batch:
        for message in messages:
            batch.send(message)


def _compare(
    title: str, server: Server, acts: dict[str, Callable[[], object]], calls: int, rounds: int
) -> None:  # fmt: skip
    contenders: dict[str, Contender] = {
        name: partial(_repeated, server, act, calls) for name, act in acts.items()
    }
    counts = dict.fromkeys(contenders, calls)
    measures = alternately(contenders, rounds)
    print_table(title, measures, counts, "calls")


def _repeated(server: Server, act: Callable[[], object], calls: int) -> Measure:
    with server.client() as client:
        client.flushall()
    for _ in repeat(None, calls // WARM_UP):
        act()
    watch = Stopwatch(server.port)
    watch.press()
    for _ in repeat(None, calls):
        act()
    watch.press()
    assert watch.measure is not None
    return watch.measure


if __name__ == "__main__":
    main()
