"""What four idle processes cost, and how soon one of them begins to run a message."""

import re
import time
from functools import partial
from pathlib import Path
from typing import Any

from peers.arena import START_S, arena
from peers.board import Board
from peers.contestants import Contestant
from support.processes import cpu_s
from support.server import Server
from support.stopwatch import Stopwatch

PROCESSES = 4
_WARM_UP = 40  # messages
_SETTLING_S = 1.0


def reside(contestant: Contestant, server: Server, idle_s: float, probes: int) -> dict[str, Any]:
    with arena(contestant, server, "tell") as ring:
        ring.start(PROCESSES)
        board, sent = ring.board, 0
        end_s = time.monotonic() + START_S
        while board.takers < PROCESSES and time.monotonic() < end_s:  # until each has run one
            sent += _WARM_UP
            ring.send(_WARM_UP)
            ring.wait(partial(_ran, board, sent), START_S, "at work")
        time.sleep(_SETTLING_S)
        members = ring.members()
        pss = sum(_pss_mb(pid) for pid in members)
        watch = Stopwatch(server.port, lambda: cpu_s(members))
        watch.press()
        time.sleep(idle_s)
        watch.press()
        assert watch.measure is not None
        found = sorted(ring.probe(probes))
    return {
        "pss_mb": pss,
        "idle_cpu_percent": 100 * watch.measure.client_cpu / watch.measure.seconds,
        "idle_trips_s": watch.measure.round_trips / watch.measure.seconds,
        "idle_commands_s": sum(watch.measure.commands.values()) / watch.measure.seconds,
        "latency_ms": found,
    }


def _ran(board: Board, messages: int) -> bool:
    return board.total >= messages


def _pss_mb(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # RQ's process for one job has ended
        return 0.0
    said = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(said[1]) / 1024 if said else 0.0
