"""The ledger: real workers under random kills, and an account that must balance.

    python -m benchmarks.ledger --minutes 10 --seed 1

Two supervisors with two children each work while children, templates, supervisors, whole process groups,
connections and the server itself are killed at random. Each handler notes in a file that it began and that it
ended, so the account needs no faith in HotQueue. In the end every accepted message must be done, dead,
waiting or delayed. Exit code 1 if it does not balance.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hotqueue import HotQueue, NotSent, OutcomeUnknown
from hotqueue.address import Address
from hotqueue.binary import find_binary
from hotqueue.connection import Pool

CONCURRENCY = 2
SUPERVISORS = 2
REPEATS_PER_FAULT = CONCURRENCY * SUPERVISORS  # times prefetch: done of a claim and not acknowledged
DRAIN_S = 180.0
TASKS = """
import os, signal, time
from hotqueue import HotQueue, current
from hotqueue.retries import Reject

notes = os.open(os.environ["LEDGER_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
queue = HotQueue("ledger")

def note(word, number):
    os.write(notes, f"{word} {number}\\n".encode())

@queue.worker(retries=3, backoff=[0.2, 0.5, 1.0])
def handle(message):
    kind, number = message
    note("began", number)
    if kind == "slow":
        time.sleep(0.05)
    if kind == "fails once" and current().attempt == 1:
        raise ValueError("the first time")
    if kind == "rejected":
        raise Reject("always")
    if kind == "crashes once" and not current().trail.crashes:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "poison":
        os._exit(9)
    note("done", number)
"""
KINDS = {
    "plain": 80,
    "slow": 10,
    "fails once": 4,
    "rejected": 2,
    "crashes once": 2,
    "delayed": 4,
    "poison": 0.2,
}


@dataclass
class Account:
    """What the producer and the chaos know."""

    accepted: dict[int, str] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)


class Stage:
    """The server and the supervisors, and how to hurt them."""

    def __init__(
        self, folder: Path, chance: random.Random, account: Account, prefetch: int, faults: list[str]
    ) -> None:
        self.folder = folder
        self.prefetch = prefetch
        self.faults = faults
        self.chance = chance
        self.account = account
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        (folder / "ledger_tasks.py").write_text(TASKS)
        self.notes = folder / "notes"
        self.server = self.start_server()
        self.workers = [self.start_worker() for _ in range(SUPERVISORS)]

    def start_server(self) -> subprocess.Popen[bytes]:
        options = ["--port", str(self.port), "--dir", str(self.folder), "--bind", "127.0.0.1", "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "everysec", "--loglevel", "warning"]
        log = (self.folder / "server.log").open("ab")
        process = subprocess.Popen(
            [str(find_binary()), *options], stdout=log, stderr=log, start_new_session=True
        )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(NotSent, OutcomeUnknown):
                len(HotQueue("ledger", url=self.url))
                return process
            time.sleep(0.02)
        sys.exit("the server did not start")

    def start_worker(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "HOTQUEUE_URL": self.url,
            "LEDGER_NOTES": str(self.notes),
            "PYTHONPATH": os.pathsep.join([str(self.folder), *sys.path]),
        }
        command = [
            sys.executable,
            "-m",
            "hotqueue.worker",
            "ledger_tasks",
            "-c",
            str(CONCURRENCY),
            "-l",
            "warning",
        ]
        command += ["--prefetch", str(self.prefetch)]
        log = (self.folder / "worker.log").open("ab")
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def processes(self, kind: str) -> list[int]:
        """Return pids of ours by title: child, template."""
        groups = {worker.pid for worker in self.workers}
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ProcessLookupError):
                    title = (entry / "cmdline").read_bytes()
                    if (
                        title.startswith(f"hotqueue: {kind}".encode())
                        and os.getpgid(int(entry.name)) in groups
                    ):
                        found.append(int(entry.name))
        return found

    def hurt(self) -> None:
        """Let one random thing go wrong."""
        fault = self.chance.choices(self.faults, [FAULTS[name][0] for name in self.faults])[0]
        with contextlib.suppress(ProcessLookupError, PermissionError, NotSent, OutcomeUnknown):
            FAULTS[fault][1](self)
        self.account.faults[fault] += 1

    def kill_one(self, kind: str) -> None:
        if pids := self.processes(kind):
            os.kill(self.chance.choice(pids), signal.SIGKILL)

    def freeze_child(self) -> None:
        if pids := self.processes("child"):
            pid = self.chance.choice(pids)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.chance.uniform(0.1, 1.0))
            os.kill(pid, signal.SIGCONT)

    def kill_supervisor(self) -> None:
        place = self.chance.randrange(SUPERVISORS)
        self.workers[place].kill()
        self.workers[place].wait()
        self.workers[place] = self.start_worker()

    def kill_group(self) -> None:
        place = self.chance.randrange(SUPERVISORS)
        os.killpg(self.workers[place].pid, signal.SIGKILL)
        self.workers[place].wait()
        self.workers[place] = self.start_worker()

    def stop_worker(self) -> None:
        place = self.chance.randrange(SUPERVISORS)
        self.workers[place].terminate()
        self.workers[place].wait(60)
        self.workers[place] = self.start_worker()

    def cut_connections(self) -> None:
        Pool(Address.from_url(self.url)).call("CLIENT", "KILL", "TYPE", "normal")

    def kill_server(self) -> None:
        self.server.kill()
        self.server.wait()
        time.sleep(self.chance.uniform(0, 0.5))
        self.server = self.start_server()

    def close(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(60)
        self.server.terminate()
        self.server.wait()


FAULTS = {
    "child killed": (10, lambda stage: stage.kill_one("child")),
    "child frozen": (3, Stage.freeze_child),
    "template killed": (2, lambda stage: stage.kill_one("template")),
    "supervisor killed": (2, Stage.kill_supervisor),
    "group killed": (2, Stage.kill_group),
    "worker stopped": (2, Stage.stop_worker),
    "connections cut": (4, Stage.cut_connections),
    "server killed": (2, Stage.kill_server),
}


def produce(url: str, account: Account, chance: random.Random, stop: threading.Event) -> None:
    """Enqueue numbered messages of all kinds, and note what became of each call."""
    queue = HotQueue("ledger", url=url)
    number = 0
    while not stop.is_set():
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        number += 1
        try:
            if kind == "delayed":
                queue.send((kind, number), delay=chance.uniform(0.1, 3.0))
            else:
                queue.enqueue((kind, number))
            account.accepted[number] = kind
        except OutcomeUnknown:
            account.unknown.add(number)
        except NotSent:
            account.refused += 1
            stop.wait(0.05)
        stop.wait(chance.expovariate(300))


def wait_until_at_rest(queue: HotQueue) -> bool:
    """Wait until nothing is waiting, in flight or delayed."""
    end = time.monotonic() + DRAIN_S
    while time.monotonic() < end:
        with contextlib.suppress(NotSent, OutcomeUnknown):
            stats = queue.stats()
            if not stats.waiting + stats.in_flight + stats.delayed:
                return True
        time.sleep(0.2)
    return False


def balance(stage: Stage, account: Account, queue: HotQueue) -> bool:
    """Print the account; return whether it balances."""
    words = [line.split() for line in stage.notes.read_text().splitlines()]
    done = Counter(int(number) for word, number in words if word == "done")
    dead = Counter(int(queue.dead.decode(message)[1]) for message in queue.dead)
    stats = queue.stats()
    known = set(account.accepted) | account.unknown
    lost = sorted(number for number in account.accepted if number not in done and number not in dead)
    unexpected = sorted(number for number in (*done, *dead) if number not in known)
    twice = sum(count - 1 for count in done.values()) + sum(1 for number in dead if number in done)
    buried_innocents = sorted(n for n in dead if account.accepted.get(n) not in {"rejected", "poison", None})
    faults = sum(account.faults.values())
    most = faults * REPEATS_PER_FAULT * stage.prefetch
    print("faults     ", ", ".join(f"{name} {count}" for name, count in sorted(account.faults.items())))
    print(f"accepted   {len(account.accepted)} (unknown {len(account.unknown)}, refused {account.refused})")
    print(f"done       {len(done)}\ndead       {len(dead)} (innocent: {buried_innocents[:10]})")
    print(f"waiting    {stats.waiting}\ndelayed    {stats.delayed}\nin flight  {stats.in_flight}")
    print(f"lost       {len(lost)} {lost[:10]}\nunexpected {len(unexpected)} {unexpected[:10]}")
    print(f"repeated   {twice} (at most {most} for {faults} faults)")
    left = stats.waiting + stats.delayed + stats.in_flight
    return not (lost or unexpected or buried_innocents or left) and twice <= most


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--prefetch", type=int, default=1)
    options.add_argument(
        "--only", action="append", choices=FAULTS, help="this kind of fault; may be repeated"
    )
    options.add_argument("--keep", action="store_true", help="keep the folder with logs and notes")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hotqueue-ledger-"))
    chance = random.Random(chosen.seed)
    account = Account()
    stage = Stage(folder, chance, account, chosen.prefetch, chosen.only or list(FAULTS))
    stop = threading.Event()
    producer = threading.Thread(
        target=produce, args=(stage.url, account, random.Random(chosen.seed + 1), stop)
    )
    producer.start()
    end = time.monotonic() + chosen.minutes * 60
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.1, 1.0))
        stage.hurt()
    stop.set()
    producer.join()
    queue = HotQueue("ledger", url=stage.url)
    at_rest = wait_until_at_rest(queue)
    balanced = balance(stage, account, queue) and at_rest
    stage.close()
    print(f"seed {chosen.seed}: the account {'balances' if balanced else f'DOES NOT BALANCE, see {folder}'}")
    if balanced and not chosen.keep:
        for file in folder.iterdir():
            if file.is_file():
                file.unlink()
    return 0 if balanced else 1


if __name__ == "__main__":
    sys.exit(main())
