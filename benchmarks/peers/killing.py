"""What kill -9 loses: `python -m peers.killing NUMBER-OF-CONTESTANT all|one WAIT-S` prints it as JSON.

Messages take 50 ms. In the middle of it all processes of the worker are killed and it is started again, or
one process is killed that runs a message. A process of its own for each, so that all can wait at once.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from peers.arena import START_S, Arena, arena
from peers.contestants import CONTESTANTS, Contestant
from peers.environments import Unavailable
from support.server import private_server

PROCESSES = 4
MESSAGES = 120
_AT = 40  # are done
_TRIES, _POLL_S = 100, 0.005


def main() -> None:
    number, whom, wait_s = sys.argv[1:]
    try:
        found = kill(CONTESTANTS[int(number)], whom, float(wait_s))
    except Unavailable as unavailable:
        found = {"broken": str(unavailable)}
    print(json.dumps(found))


def kill(contestant: Contestant, whom: str, wait_s: float) -> dict[str, Any]:
    with private_server() as server, arena(contestant, server, "slow") as ring:
        ring.send(MESSAGES)
        ring.start(PROCESSES)
        ring.wait(lambda: ring.board.total >= _AT, START_S, "in the middle of it")
        if whom == "all":
            ring.kill()
            ring.start(PROCESSES)
        else:
            _kill_one(ring)
        killed_s = time.monotonic()
        restarted = not _comes_back(ring, wait_s)
        if restarted:  # as a process manager would, which its documentation asks for
            ring.start(PROCESSES)
            _comes_back(ring, wait_s)
        return {**_account(ring), "seconds": time.monotonic() - killed_s, "restarted": restarted}


def _comes_back(ring: Arena, wait_s: float) -> bool:
    """Wait until all messages are run, or for so long; return whether any process of the worker is left."""
    with suppress(Unavailable):  # what is not run is counted
        ring.wait(lambda: _account(ring)["lost"] == 0, wait_s, "all run")
    return bool(ring.members())


def _kill_one(ring: Arena) -> None:
    """Kill the process that has begun a message last; again, if it had ended it meanwhile."""
    for _ in range(_TRIES):
        lines = [line.split() for line in ring.notes.read_text().splitlines()]
        ended = {words[1] for words in lines if words[0] == "ended"}
        running = [words for words in lines if words[0] == "began" and words[1] not in ended]
        if not running:
            time.sleep(_POLL_S)
            continue
        _, message, pid = running[-1]
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
            if f"ended {message}\n" not in ring.notes.read_text():
                return
    msg = "no process was killed while it ran a message"
    raise Unavailable(msg)


def _account(ring: Arena) -> dict[str, int]:
    ended = Counter(
        line.split()[1] for line in ring.notes.read_text().splitlines() if line.startswith("ended ")
    )
    return {"lost": MESSAGES - len(ended), "repeated": sum(1 for times in ended.values() if times > 1)}


if __name__ == "__main__":
    main()
