"""What a worker with four idle children costs: CPU of each process, and commands that Redis gets. Linux.

With --scrape it has --metrics, and is scraped as often as that.
"""

import argparse
import os
import time
import urllib.request
from pathlib import Path

import redis
from support.running import wait_until_idle, worker
from support.server import free_port, private_server

SECONDS = 30.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=SECONDS)
    options.add_argument("--scrape", type=float, metavar="SECONDS", help="serve metrics, scrape that often")
    told = options.parse_args()
    seconds: float = told.seconds
    port = free_port()
    more = () if told.scrape is None else ("--metrics", str(port))
    with private_server() as server, worker(server, *more) as one, server.client() as client:
        wait_until_idle(server)
        client.ping()  # connected
        members = one.members()
        before, counted = {name: _cpu_s(pid) for name, pid in members.items()}, _counts(client)
        _scrape(port, told.scrape or seconds, seconds, is_wanted=told.scrape is not None)
        after = {name: _cpu_s(pid) for name, pid in members.items()}
        trips, commands = (now - then - 1 for now, then in zip(_counts(client), counted, strict=True))
    print(f"over {seconds:g} s")
    for name in sorted(members):
        print(f"{name:12} {100 * (after[name] - before[name]) / seconds:.2f} % CPU")
    print(f"{'Redis':12} {trips / seconds:.2f} round trips/s")
    print(f"{'':12} {commands / seconds:.2f} commands/s with those of scripts")


def _scrape(port: int, every_s: float, for_s: float, *, is_wanted: bool) -> None:
    end_s = time.monotonic() + for_s
    while (left_s := end_s - time.monotonic()) > 0:
        if is_wanted:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
                reply.read()
        time.sleep(min(every_s, left_s))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _counts(client: redis.Redis) -> tuple[int, int]:
    """Return what Redis has read and run so far."""
    said = client.info("stats")
    return said["total_reads_processed"], said["total_commands_processed"]


if __name__ == "__main__":
    main()
