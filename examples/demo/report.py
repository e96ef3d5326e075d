"""What the demo found, in lines of at most 80 characters."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TypedDict

WIDTH = 80
SHOWN = 5


class Result(TypedDict):
    """What `measure` enqueues for each text. Times are seconds since 1970."""

    path: str
    bytes: int
    lines: int
    sha256: str
    words: dict[str, int]
    pid: int
    started: float
    ended: float


def report(found: Iterable[Result]) -> Iterator[str]:
    # At-least-once: after a crash a text may have been measured twice. Its path says that it is the same one.
    results = list({result["path"]: result for result in found}.values())
    if not results:
        return
    yield from _children(results)
    yield ""
    yield from _slowest(results)
    yield ""
    yield from _contents(results)


def _children(results: list[Result]) -> Iterator[str]:
    by_pid: dict[int, list[Result]] = defaultdict(list)
    for result in results:
        by_pid[result["pid"]].append(result)
    yield f"{'child':<12}{'files':>8}{'lines':>12}{'words':>12}{'MiB':>10}{'busy s':>10}"
    for pid, own in sorted(by_pid.items()):
        yield _row(f"pid {pid}", own)
    yield _row("together", results)
    seconds = max(result["ended"] for result in results) - min(result["started"] for result in results)
    yield f"{len(results):,} files in {seconds:.2f} s, {len(results) / seconds:,.0f} a second"


def _row(name: str, results: list[Result]) -> str:
    lines = sum(result["lines"] for result in results)
    words = sum(sum(result["words"].values()) for result in results)
    size = sum(result["bytes"] for result in results) / 2**20
    busy = sum(map(_busy, results))
    return f"{name:<12}{len(results):>8,}{lines:>12,}{words:>12,}{size:>10.2f}{busy:>10.2f}"


def _slowest(results: list[Result]) -> Iterator[str]:
    yield f"{'slowest':<12}{'ms':>8}{'KiB':>12}"
    for result in sorted(results, key=_busy, reverse=True)[:SHOWN]:
        numbers = f"{'':<12}{_busy(result) * 1000:>8.1f}{result['bytes'] / 1024:>12,.1f}"
        yield f"{numbers}  {_end_of(result['path'], WIDTH - len(numbers) - 2)}"


def _contents(results: list[Result]) -> Iterator[str]:
    words: Counter[str] = Counter()
    for result in results:
        words.update(result["words"])
    frequent = [f"{word} {times:,}" for word, times in words.most_common(SHOWN)]
    copies = len(results) - len({result["sha256"] for result in results})
    yield f"{'most often':<12}{', '.join(frequent)}"
    yield f"{'copies':<12}{copies:,} files have the same content as another"


def _busy(result: Result) -> float:
    return result["ended"] - result["started"]


def _end_of(path: str, width: int) -> str:
    return path if len(path) <= width else f"…{path[1 - width :]}"
