"""Contenders in turn, round after round, and a table of medians."""

import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from support.stopwatch import Measure

Contender = Callable[[], Measure]
_MICRO = 1e6
_HEADS = (
    "slowest", "fastest", "ratio", "client us", "server us", "trips", "commands",
    "bytes in", "bytes out", "AOF bytes",
)  # fmt: skip


def alternately(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Measure]]:
    """Run each contender once a round: what disturbs the machine for a while disturbs all of them."""
    measures: dict[str, list[Measure]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contend in contenders.items():
            measures[name].append(contend())
    return measures


def print_versions(server: str, aof: str, *facts: str) -> None:
    """Print what the figures below depend on."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    used = [f"{package} {_version(package)}" for package in ("hotqueue", "redis", "hiredis")]
    print(", ".join([python, *used, server, f"AOF {aof}", *facts]))
    print(f"{machine()} before")


def machine() -> str:
    """Return its shape; the load tells whether it has other things to do."""
    kernel = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    return ", ".join([kernel, f"{os.cpu_count()} cores", _cpu_model(), f"load {os.getloadavg()[0]:.1f}"])


def print_table(
    title: str, measures: Mapping[str, Sequence[Measure]], counts: Mapping[str, int], unit: str
) -> None:
    """Print medians over the rounds; `counts` has how many units one run of each contender was.

    The ratio is to the first contender in the same round.
    """
    base = next(iter(measures))
    width = max(map(len, measures))
    print(f"\n{title}")
    print(" ".join([f"{'':{width}}", *(f"{head:>9}" for head in (f"{unit}/s", *_HEADS))]))
    for name, runs in measures.items():
        count = counts[name]
        rates = [count / run.seconds for run in runs]
        beside = [counts[base] / run.seconds for run in measures[base]]
        ratio = median(rate / other for rate, other in zip(rates, beside, strict=True))
        cells = [f"{rate:,.0f}" for rate in (median(rates), min(rates), max(rates))]
        cells += [f"{ratio:.2f}", *_parts(runs, count)]
        print(" ".join([f"{name:{width}}", *(f"{cell:>9}" for cell in cells)]))
    sys.stdout.flush()


def print_commands(measures: Mapping[str, Sequence[Measure]], counts: Mapping[str, int], unit: str) -> None:
    """Print which commands the server ran, those that scripts call too."""
    print(f"\ncommands for each {unit}")
    width = max(map(len, measures))
    for name, runs in measures.items():
        calls = sorted(runs[-1].commands.items(), key=lambda item: -item[1])
        shown = [f"{command} {number / counts[name]:.3f}" for command, number in calls]
        print(f"{name:{width}}  {', '.join(each for each in shown if not each.endswith(' 0.000'))}")


def _parts(runs: Sequence[Measure], count: int) -> list[str]:
    def each(value: Callable[[Measure], float]) -> float:
        return median(map(value, runs)) / count

    return [
        f"{each(lambda run: run.client_cpu) * _MICRO:.1f}",
        f"{each(lambda run: run.server_cpu) * _MICRO:.1f}",
        f"{each(lambda run: run.round_trips):.3f}",
        f"{each(lambda run: sum(run.commands.values())):.3f}",
        f"{each(lambda run: run.bytes_in):.0f}",
        f"{each(lambda run: run.bytes_out):.0f}",
        f"{each(lambda run: run.aof_bytes):.0f}",
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _cpu_model() -> str:
    known = Path("/proc/cpuinfo")
    found = known.exists() and re.search(r"^model name\s*: (.+)$", known.read_text(), re.MULTILINE)
    return found[1] if found else platform.processor() or "processor unknown"
