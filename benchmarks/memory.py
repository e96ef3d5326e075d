"""What a worker of four children takes of memory, and four programs that run the handler themselves. Linux.

Each has run some messages before. The proportional set size of a process counts a page that n processes share
as 1/n.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.running import CHILDREN, wait_until_idle, worker
from support.server import Server, private_server
from support.timed import queue, times

WARM_UP = 400


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--importing", default="", help="modules that the application imports: pandas")
    os.environ["BENCHMARK_IMPORTS"] = options.parse_args().importing
    print("PSS, MB (of it shared with no other process)")
    with private_server() as server, worker(server) as one:
        _warm_up(server)
        sizes = {name: _pss(pid) for name, pid in sorted(one.members().items())}
    for name, (pss, private) in sizes.items():
        print(f"{name:12} {pss:6.1f} ({private:.1f})")
    print(f"{'all':12} {sum(pss for pss, _ in sizes.values()):6.1f}")
    with private_server() as server, programs(server) as pids:
        _warm_up(server)
        sizes = {f"program {place}": _pss(pid) for place, pid in enumerate(pids, 1)}
    for name, (pss, private) in sizes.items():
        print(f"{name:12} {pss:6.1f} ({private:.1f})")
    print(f"{'all':12} {sum(pss for pss, _ in sizes.values()):6.1f}")


@contextmanager
def programs(server: Server) -> Iterator[list[int]]:
    """Have four programs run the loop of the handler."""
    code = "from support.timed import take; take.run()"
    environment = os.environ | {"HOTQUEUE_URL": server.url}
    folder = Path(__file__).parent
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment) for _ in range(CHILDREN)
    ]
    try:
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.terminate()
            each.wait()


def _warm_up(server: Server) -> None:
    wait_until_idle(server)
    with server.client() as client:
        client.rpush(queue.key, *[queue.serializer.dumps(0.0)] * WARM_UP)
        while client.llen(times.key) < 2 * WARM_UP:
            time.sleep(0.01)
    wait_until_idle(server)


def _pss(pid: int) -> tuple[float, float]:
    said = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    private = int(said["Private_Clean"]) + int(said["Private_Dirty"])
    return int(said["Pss"]) / 1024, private / 1024


if __name__ == "__main__":
    main()
