"""What a worker with four idle children costs: CPU of each process, and commands that Redis gets. Linux."""

import argparse
import os
import time
from pathlib import Path

import redis
from support.running import worker
from support.server import private_server

SECONDS = 30.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=SECONDS)
    seconds = options.parse_args().seconds
    with private_server() as server, worker(server) as one, server.client() as client:
        one.wait_until_idle()
        client.ping()  # connected
        members = one.members()
        before, counted = {name: _cpu_s(pid) for name, pid in members.items()}, _counts(client)
        time.sleep(seconds)
        after = {name: _cpu_s(pid) for name, pid in members.items()}
        trips, commands = (now - then - 1 for now, then in zip(_counts(client), counted, strict=True))
    print(f"over {seconds:g} s")
    for name in sorted(members):
        print(f"{name:12} {100 * (after[name] - before[name]) / seconds:.2f} % CPU")
    print(f"{'Redis':12} {trips / seconds:.2f} round trips/s")
    print(f"{'':12} {commands / seconds:.2f} commands/s with those of scripts")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _counts(client: redis.Redis) -> tuple[int, int]:
    """Return what Redis has read and run so far."""
    said = client.info("stats")
    return said["total_reads_processed"], said["total_commands_processed"]


if __name__ == "__main__":
    main()
