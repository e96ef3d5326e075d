"""The ledger: real workers under random kills, and an account that must balance.

    python -m benchmarks.ledger --minutes 10 --seed 1
    python -m benchmarks.ledger --minutes 1 --seed 1 --each

Two supervisors with two children each work while children, templates, supervisors, whole process groups,
connections and the server itself are killed at random, and workers reload. Each handler notes in a file that
it began and that it ended, so the account needs no faith in HotQueue. In the end every accepted message must
be done, dead, waiting or delayed. With `--each` there is one run of `--minutes` for each kind of fault, which
alone can be to blame for what is lost, stuck or repeated in it. Exit code 1 if an account does not balance.
"""

import argparse
import contextlib
import os
import random
import shutil
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
from hotqueue.pace import MOST
from hotqueue.pool import Pool

CONCURRENCY = 2
SUPERVISORS = 2
REPEATS_PER_FAULT = CONCURRENCY * SUPERVISORS  # times what a child holds: done, not acknowledged
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
        self, folder: Path, chance: random.Random, account: Account, options: list[str], faults: list[str]
    ) -> None:
        self.folder = folder
        self.options = options
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
        # Always: with everysec a server whose disk is busy answers before it has written; a kill loses that.
        options += ["--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning"]
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
        command += self.options
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
        """Return pids of ours by title: child, template, supervisor."""
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

    def send_one(self, kind: str, number: signal.Signals) -> None:
        if pids := self.processes(kind):
            os.kill(self.chance.choice(pids), number)

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
    "child killed": (10, lambda stage: stage.send_one("child", signal.SIGKILL)),
    "child frozen": (3, Stage.freeze_child),
    "template killed": (2, lambda stage: stage.send_one("template", signal.SIGKILL)),
    "supervisor killed": (2, Stage.kill_supervisor),
    "group killed": (2, Stage.kill_group),
    "worker reloaded": (4, lambda stage: stage.send_one("supervisor", signal.SIGHUP)),
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


@dataclass
class Verdict:
    """What became of the messages of one run."""

    done: int
    dead: int
    innocent: list[int]
    stuck: Counter[str]
    lost: list[int]
    unexpected: list[int]
    repeated: int
    most_repeated: int

    @property
    def balances(self) -> bool:
        """Whether each accepted message came to its end, and none too often."""
        wrong = self.lost or self.unexpected or self.innocent or self.stuck.total()
        return not wrong and self.repeated <= self.most_repeated


def judge(notes: Path, held: int, account: Account, queue: HotQueue) -> Verdict:
    """Compare what handlers noted and what lies in Redis with what was accepted; a child holds `held`."""
    words = [line.split() for line in notes.read_text().splitlines()]
    done = Counter(int(number) for word, number in words if word == "done")
    dead = Counter(int(queue.dead.decode(message)[1]) for message in queue.dead)
    stats = queue.stats()
    known = set(account.accepted) | account.unknown
    repeated = sum(count - 1 for count in done.values()) + sum(1 for number in dead if number in done)
    return Verdict(
        done=len(done),
        dead=len(dead),
        innocent=sorted(n for n in dead if account.accepted.get(n) not in {"rejected", "poison", None}),
        stuck=Counter({"waiting": stats.waiting, "delayed": stats.delayed, "in flight": stats.in_flight}),
        lost=sorted(number for number in account.accepted if number not in done and number not in dead),
        unexpected=sorted(number for number in (*done, *dead) if number not in known),
        repeated=repeated,
        most_repeated=account.faults.total() * REPEATS_PER_FAULT * held,
    )


def told(account: Account, verdict: Verdict) -> str:
    """Return the account, a line for each item."""
    faults = ", ".join(f"{name} {count}" for name, count in sorted(account.faults.items()))
    most = f"at most {verdict.most_repeated} for {account.faults.total()} faults"
    accepted = f"{len(account.accepted)} (unknown {len(account.unknown)}, refused {account.refused})"
    items = {
        "faults": faults,
        "accepted": accepted,
        "done": verdict.done,
        "dead": f"{verdict.dead} (innocent: {verdict.innocent[:10]})",
        **verdict.stuck,
        "lost": f"{len(verdict.lost)} {verdict.lost[:10]}",
        "unexpected": f"{len(verdict.unexpected)} {verdict.unexpected[:10]}",
        "repeated": f"{verdict.repeated} ({most})",
    }
    return "\n".join(f"{name:10} {item}" for name, item in items.items())


def run(chosen: argparse.Namespace, faults: list[str]) -> tuple[Account, Verdict]:
    """Send, hurt and work for `--minutes`, and print the account."""
    folder = Path(tempfile.mkdtemp(prefix="hotqueue-ledger-"))
    chance = random.Random(chosen.seed)
    account = Account()
    options = ["--threads", str(chosen.threads)]
    options += [] if chosen.prefetch is None else ["--prefetch", str(chosen.prefetch)]
    stage = Stage(folder, chance, account, options, faults)
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
    wait_until_at_rest(queue)
    held = (chosen.prefetch or MOST) * chosen.threads
    verdict = judge(stage.notes, held, account, queue)
    stage.close()
    print(told(account, verdict))
    balances = "balances" if verdict.balances else f"DOES NOT BALANCE, see {folder}"
    print(f"seed {chosen.seed}: the account {balances}", flush=True)
    if verdict.balances and not chosen.keep:
        shutil.rmtree(folder)
    return account, verdict


def table(runs: dict[str, tuple[Account, Verdict]]) -> str:
    """Return what each kind of fault has done, a line for each."""
    lines = ["| fault | times | accepted | lost | stuck | repeated |", "|---|---|---|---|---|---|"]
    for kind, (account, verdict) in runs.items():
        counts = (account.faults.total(), len(account.accepted), len(verdict.lost), verdict.stuck.total())
        lines.append(f"| {kind} | {' | '.join(f'{count:,}' for count in (*counts, verdict.repeated))} |")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=1.0, help="of one run, without the drain")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--prefetch", type=int, help="by default, by estimate")
    options.add_argument("--threads", type=int, default=1, help="of each child")
    options.add_argument(
        "--only", action="append", choices=FAULTS, help="this kind of fault; may be repeated"
    )
    options.add_argument("--each", action="store_true", help="a run for each kind of fault, and a table")
    options.add_argument("--keep", action="store_true", help="keep the folder with logs and notes")
    chosen = options.parse_args()
    kinds = chosen.only or list(FAULTS)
    if not chosen.each:
        return 0 if run(chosen, kinds)[1].balances else 1
    runs = {kind: run(chosen, [kind]) for kind in kinds}
    print(table(runs))
    return 0 if all(verdict.balances for _, verdict in runs.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
