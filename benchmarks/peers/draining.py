"""How fast a contestant drains a queue, and what it costs to put one message there."""

from dataclasses import asdict
from typing import Any

from peers.arena import START_S, arena
from peers.contestants import Contestant
from peers.environments import Unavailable
from support.placement import placed
from support.processes import cpu_s
from support.server import Server
from support.stopwatch import Measure, Stopwatch

_LEAST = 40
_WARM_UP = 10  # one in so many messages comes before those that are measured
_TRIES, _MORE = 3, 8


def drain(
    contestant: Contestant, server: Server, processes: int, placement: str, seconds: float
) -> dict[str, Any]:
    """Measure from when each process has run a message until the last is done, for about so many seconds.

    Where a parent hands them out it is from when one has: the others are there, and may get none.

    The messages are there before the workers are, so who prefetches finds as many as it likes.
    """
    messages = max(_LEAST, round(contestant.rate * seconds * min(processes, 2)))
    for _ in range(_TRIES):
        found = _drain(contestant, server, processes, placement, messages)
        if found["count"] > messages // 2:
            return found
        messages *= _MORE  # most was drained before the last process had begun
    msg = f"its {processes} processes did not come up together"
    raise Unavailable(msg)


def _drain(
    contestant: Contestant, server: Server, processes: int, placement: str, messages: int
) -> dict[str, Any]:
    warm_up = max(messages // _WARM_UP, processes)
    with placed(placement, server.pid), arena(contestant, server, "count") as ring:
        watch = Stopwatch(server.port)
        watch.press()
        sent = ring.send(warm_up + messages)
        watch.press()
        sending = watch.measure
        assert sending is not None
        ring.start(processes)
        board, whole = ring.board, warm_up + messages
        least = 1 if contestant.hands_out else processes
        ring.wait(lambda: board.total >= (warm_up if board.takers >= least else whole), START_S, "at work")
        watch = Stopwatch(server.port, lambda: cpu_s(ring.members()))
        watch.press()
        before = board.total
        ring.wait(lambda: board.total >= whole, START_S, "done")
        watch.press()
        assert watch.measure is not None
        count = board.total - before
    measure = asdict(watch.measure)
    measure["commands"] = sum(measure["commands"].values())
    return {"count": count, **measure, "send": {**sent, "commands": _each(sending, whole)}}


def _each(sending: Measure, messages: int) -> float:
    return sum(sending.commands.values()) / messages
