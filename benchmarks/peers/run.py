"""HotQueue beside other queues for Python on Redis: `make bench`, or `make bench ARGS=--quick`.

Each peer is installed below `.bench/`, and run as its documentation advises (`adapters/` say how). What was
measured is kept in `.bench/results.json`; `--write` puts it into `docs/explanation/speed.md`, with a plot.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from peers import report
from peers.arena import BENCHMARKS
from peers.contestants import CONTESTANTS, Contestant
from peers.draining import drain
from peers.environments import FOLDER, Unavailable, versions_of
from peers.resident import reside
from support.options import positive
from support.placement import DIFFERENT, SAME, UNPINNED, possible
from support.report import machine
from support.server import KINDS, Server, private_server

QUICK = {"rounds": 1, "seconds": 0.3, "idle": 3.0, "probes": 30, "wait": 20.0, "pinned": False}
FULL = {"rounds": 3, "seconds": 1.5, "idle": 10.0, "probes": 200, "wait": 100.0, "pinned": True}
_TOGETHER = 14  # kills at once: most of each is waiting


def main() -> None:
    options = _parser().parse_args()
    chosen = [
        each for each in CONTESTANTS if each.name in (options.only or [known.name for known in CONTESTANTS])
    ]
    options.folder.mkdir(exist_ok=True)
    results = options.folder / "results.json"
    if not options.again:
        measured: dict[str, Any] = {}
        try:
            _measure(chosen, options, measured)
        finally:
            results.write_text(json.dumps(measured, indent=1))
    found = json.loads(results.read_text())
    print(report.markdown(found))
    if options.write:
        report.write(found)


def _measure(chosen: Sequence[Contestant], options: argparse.Namespace, found: dict[str, Any]) -> None:
    found["contestants"] = {each.name: {"back": each.back, "lives": each.lives} for each in chosen}
    able = list(_able(chosen, found["contestants"]))
    with private_server(options.server) as server:
        found["machine"] = machine()
        found["server"] = server.version
        found["rounds"] = options.rounds
        _drain_all(able, server, options, found["contestants"])
        _reside_all(able, server, options, found["contestants"])
    _kill_all(able, options.wait, found["contestants"])
    found["wait"] = options.wait
    found["load_after"] = machine().rpartition(", ")[2]


def _able(chosen: Sequence[Contestant], found: dict[str, Any]) -> Iterator[Contestant]:
    """Yield those that can be installed, and note their versions, or why they cannot."""
    for each in chosen:
        try:
            found[each.name]["versions"] = versions_of(each)
            yield each
        except Unavailable as unavailable:
            _say(each, "cannot be installed", unavailable)
            found[each.name]["broken"] = f"cannot be installed: {unavailable}"


def _drain_all(
    able: Sequence[Contestant], server: Server, options: argparse.Namespace, found: dict[str, Any]
) -> None:
    courses = [(1, UNPINNED), (4, UNPINNED)]
    if options.pinned:
        courses += [(1, SAME), *([(4, DIFFERENT)] if DIFFERENT in possible() else [])]
    for number in range(options.rounds):
        for processes, placement in courses:
            for each in able:
                runs = found[each.name].setdefault(report.course(processes, placement), [])
                if any("broken" in run for run in runs):
                    continue
                print(f"round {number + 1}, {processes} processes, {placement}: {each.name}", flush=True)
                try:
                    runs.append(drain(each, server, processes, placement, options.seconds))
                except (Unavailable, OSError) as unavailable:
                    _say(each, f"with {processes} processes", unavailable)
                    runs.append({"broken": str(unavailable)})


def _reside_all(
    able: Sequence[Contestant], server: Server, options: argparse.Namespace, found: dict[str, Any]
) -> None:
    for each in able:
        if not each.lives:
            continue
        print(f"idle: {each.name}", flush=True)
        try:
            found[each.name]["resident"] = reside(each, server, options.idle, options.probes)
        except (Unavailable, OSError) as unavailable:
            _say(each, "idle", unavailable)
            found[each.name]["resident"] = {"broken": str(unavailable)}


def _kill_all(able: Sequence[Contestant], wait_s: float, found: dict[str, Any]) -> None:
    alive = [each for each in able if each.lives]
    for whom in ("all", "one"):
        for start in range(0, len(alive), _TOGETHER):
            some = alive[start : start + _TOGETHER]
            print(f"kill -9 of {whom}: {', '.join(each.name for each in some)}", flush=True)
            running = [(each, _killing(each, whom, wait_s)) for each in some]
            for each, process in running:
                said, _ = process.communicate()
                broken = {"broken": f"ended with code {process.returncode}"}
                found[each.name][f"killed {whom}"] = json.loads(said) if said else broken


def _killing(each: Contestant, whom: str, wait_s: float) -> "subprocess.Popen[bytes]":
    number = str(CONTESTANTS.index(each))
    argv = (sys.executable, "-m", "peers.killing", number, whom, str(wait_s))
    return subprocess.Popen(argv, cwd=BENCHMARKS, stdout=subprocess.PIPE)


def _say(each: Contestant, where: str, unavailable: Exception) -> None:
    print(f"{each.name}, {where}: {unavailable}", flush=True)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )  # fmt: skip
    preset = QUICK if "--quick" in sys.argv else FULL
    made.add_argument("--quick", action="store_true", help="a few minutes: other defaults for what follows")
    made.add_argument("--rounds", type=positive, help="runs of each, in turn")
    made.add_argument("--seconds", type=float, help="which a run is meant to take")
    made.add_argument("--idle", type=float, help="seconds for which idle workers are watched")
    made.add_argument("--probes", type=positive, help="messages sent to idle workers")
    made.add_argument("--wait", type=float, help="seconds to wait for what a kill -9 interrupted")
    made.add_argument("--pinned", action=argparse.BooleanOptionalAction, help="drain pinned to cores, too")
    made.add_argument("--only", action="append", choices=[each.name for each in CONTESTANTS], metavar="NAME")
    made.add_argument("--folder", type=Path, default=FOLDER, help="where the results are kept")
    made.add_argument("--server", choices=KINDS, default="valkey", help="which server to start")
    made.add_argument("--again", action="store_true", help="measure nothing, print the last results")
    made.add_argument("--write", action="store_true", help="put the results into the documentation")
    made.set_defaults(**preset)
    return made


if __name__ == "__main__":
    main()
