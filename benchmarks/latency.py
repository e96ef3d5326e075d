"""How long after a send the handler of an idle consumer begins, beside a BLPOP loop of redis-py.

All consumers idle at one server, and are sent to in turn, each time in another order: what disturbs the
machine for a while disturbs all of them.
"""

import argparse
import os
import pickle
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support import placement
from support.options import positive
from support.report import machine
from support.running import wait_until_idle
from support.server import Server, private_server

from hotqueue import HotQueue

PROBES = 500  # of each
_FIRST = 5  # more, before those that count
_PATIENCE_S = 30.0
_FOLDER = Path(__file__).resolve().parent
_PIPE, _SIZE = "BENCHMARK_BEGAN", 8  # as `support/telling.py` says
_WORKER = (sys.executable, "-m", "hotqueue.worker", "-l", "error", "-c")
_SHARES = (0.5, 0.9, 0.99, 1.0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--probes", type=positive, default=PROBES, help="messages to each")
    options.add_argument("--children", type=positive, default=1, help="of each worker, and loops beside it")
    told = options.parse_args()
    with private_server() as server, tempfile.TemporaryDirectory(prefix="hotqueue-benchmark-") as folder:
        print(f"{server.version}, {machine()} before")
        for where in placement.possible():
            with placement.placed(where, server.pid):
                found = _measured(server, Path(folder, where.replace(" ", "-")), told.children, told.probes)
            print(f"\n{where}, ms {'':12} {'p50':>7} {'p90':>7} {'p99':>7} {'most':>7}")
            for name, took_ns in found.items():
                took_ns.sort()
                shown = (took_ns[min(len(took_ns) - 1, int(share * len(took_ns)))] for share in _SHARES)
                print(f"{name:24} {' '.join(f'{each / 1e6:7.2f}' for each in shown)}", flush=True)


def _measured(server: Server, pipe: Path, children: int, probes: int) -> dict[str, list[int]]:
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    environment = os.environ | {"HOTQUEUE_URL": server.url, _PIPE: str(pipe)}
    with ExitStack() as stack:
        loop = (sys.executable, "-m", "support.telling")
        for command in [loop] * children + [
            (*_WORKER, str(children), f"support.telling:{mode}") for mode in ("at_least_once", "at_most_once")
        ]:
            stack.enter_context(_running(command, environment))
        sends = _sends(server)
        wait_until_idle(server, len(sends) * children)
        found: dict[str, list[int]] = {name: [] for name in sends}
        for _ in range(_FIRST + probes):
            for name in random.sample(list(sends), len(sends)):
                time.sleep(random.uniform(0.01, 0.03))
                found[name].append(_took_ns(sends[name], reader))
    os.close(reader)
    return {name: took[_FIRST:] for name, took in found.items()}


def _sends(server: Server) -> dict[str, Callable[[], object]]:
    """Each as its users would."""
    client = server.client()
    least, most = (HotQueue(f"benchmark-{name}", url=server.url) for name in ("alo", "amo"))
    return {
        "BLPOP loop of redis-py": lambda: client.rpush("benchmark-bare", pickle.dumps("probe")),
        "worker, at-least-once": lambda: least.enqueue("probe"),
        "worker, at-most-once": lambda: most.enqueue("probe"),
    }


def _took_ns(send: Callable[[], object], reader: int) -> int:
    sent_ns = time.monotonic_ns()
    send()
    if not select.select([reader], [], [], _PATIENCE_S)[0]:
        msg = f"a message was not run within {_PATIENCE_S:g} s"
        raise SystemExit(msg)
    return int.from_bytes(os.read(reader, _SIZE)) - sent_ns


@contextmanager
def _running(command: tuple[str, ...], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=_FOLDER, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


if __name__ == "__main__":
    main()
