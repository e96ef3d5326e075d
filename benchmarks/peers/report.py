"""Results as tables, for the terminal and for the documentation."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from peers import chart
from peers.killing import MESSAGES
from support.placement import DIFFERENT, SAME, UNPINNED

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_BEGIN, _END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
ABSENT = "–"  # noqa: RUF001 - a dash, in a table
Found = Mapping[str, Any]


def course(processes: int, placement: str) -> str:
    """The key of one kind of run."""
    return f"{processes} {placement}"


ONE, FOUR = course(1, UNPINNED), course(4, UNPINNED)
ONE_PINNED, FOUR_PINNED = course(1, SAME), course(4, DIFFERENT)


def markdown(found: Found) -> str:
    """All of it."""
    contestants: Found = found["contestants"]
    lives = {name: each for name, each in contestants.items() if each["lives"]}
    return "\n\n".join(
        [
            _conditions(found),
            _table(_SPEED, contestants),
            _table(_COST, lives),
            _table(_KILLED, lives),
            _killed_how(found),
            *_broken(contestants),
            f"Versions: {'; '.join(_versions(contestants))}.",
        ]
    )


def write(found: Found) -> None:
    """Put it between the markers of the page, and draw the plot."""
    page = _DOCS / "explanation/speed.md"
    page.write_text(between_markers(page.read_text(encoding="utf-8"), markdown(found)), encoding="utf-8")
    rates = {
        name: (_rate(each, ONE), _rate(each, FOUR)) for name, each in found["contestants"].items()
    }  # fmt: skip
    title = "Messages a second, no-op handler: one process (hollow) and four (full)"
    (_DOCS / "peers.svg").write_text(chart.dots(title, rates), encoding="utf-8")
    print(f"written: {page} and {_DOCS / 'peers.svg'}")


def between_markers(page: str, text: str) -> str:
    """Return the page with other text between its markers."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        msg = f"the page needs {_BEGIN} and {_END}"
        raise SystemExit(msg)
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def _conditions(found: Found) -> str:
    return (
        f"{found['machine']}, {found['load_after']} after; {found['server']} on the same machine, no"
        f" append-only file. Medians of {found['rounds']} runs in turn; messages of 100 bytes, the same"
        " handler, errors logged only."
    )


def _killed_how(found: Found) -> str:
    late = [f"{name} after {each['back']}" for name, each in found["contestants"].items() if each["back"]]
    known = f" What was running comes back later than that in {', '.join(late)}." if late else ""
    return (
        f"Kills: {MESSAGES} messages of 50 ms, four processes; counted when all had run, or"
        f" {found['wait']:g} s later. “All” were started again at once; ° is a worker that ended when one"
        f" process was killed and was started again, as a process manager would.{known}"
    )


def _rate(each: Found, key: str) -> float | None:
    rates = [run["count"] / run["seconds"] for run in each.get(key, ()) if "count" in run]
    return median(rates) if rates else None


def _cost(each: Found, part: Callable[[Found], float]) -> float | None:
    costs = [part(run) for run in each.get(ONE, ()) if "count" in run]
    return median(costs) if costs else None


def _micro(name: str) -> Callable[[Found], float]:
    return lambda run: 1e6 * run[name] / run["count"]


def _per_message(name: str) -> Callable[[Found], float]:
    return lambda run: run[name] / run["count"]


def _latency(each: Found, share: float) -> float | None:
    took = each.get("resident", {}).get("latency_ms")
    return took[min(len(took) - 1, int(share * len(took)))] if took else None


def _resident(name: str) -> Callable[[Found], float | None]:
    return lambda each: each.get("resident", {}).get(name)


def _killed(whom: str, what: str) -> Callable[[Found], str | None]:
    def cell(each: Found) -> str | None:
        account = each.get(f"killed {whom}", {})
        if "lost" not in account:
            return None
        if what == "seconds":
            return ABSENT if account["lost"] else f"{account['seconds']:.1f}"
        return f"{account[what]}{'°' if account['restarted'] and what == 'lost' else ''}"

    return cell


Column = tuple[str, Callable[[Found], Any], str]
_SPEED: Sequence[Column] = (
    ("1 process, messages/s", lambda each: _rate(each, ONE), ",.0f"),
    ("on one core with Redis", lambda each: _rate(each, ONE_PINNED), ",.0f"),
    ("4 processes", lambda each: _rate(each, FOUR), ",.0f"),
    ("Redis on another core", lambda each: _rate(each, FOUR_PINNED), ",.0f"),
    ("CPU, µs a message", lambda each: _cost(each, _micro("client_cpu")), ".1f"),
    ("of Redis", lambda each: _cost(each, _micro("server_cpu")), ".1f"),
    ("round trips", lambda each: _cost(each, _per_message("round_trips")), ".3f"),
    ("commands", lambda each: _cost(each, _per_message("commands")), ".2f"),
)
_COST: Sequence[Column] = (
    (
        "enqueue, messages/s",
        lambda each: _cost(each, lambda run: run["send"]["sent"] / run["send"]["seconds"]),
        ",.0f",
    ),
    (
        "CPU, µs",
        lambda each: _cost(each, lambda run: 1e6 * run["send"]["cpu_s"] / run["send"]["sent"]),
        ".1f",
    ),
    ("idle → run, ms, median", lambda each: _latency(each, 0.5), ".2f"),
    ("p99", lambda each: _latency(each, 0.99), ".2f"),
    ("4 idle processes, CPU %", _resident("idle_cpu_percent"), ".2f"),
    ("round trips/s", _resident("idle_trips_s"), ".1f"),
    ("PSS, MB", _resident("pss_mb"), ".0f"),
)
_KILLED: Sequence[Column] = (
    ("kill -9 of all: not run", _killed("all", "lost"), "s"),
    ("run twice", _killed("all", "repeated"), "s"),
    ("all run after, s", _killed("all", "seconds"), "s"),
    ("kill -9 of one: not run", _killed("one", "lost"), "s"),
    ("run twice", _killed("one", "repeated"), "s"),
    ("all run after, s", _killed("one", "seconds"), "s"),
)


def _table(columns: Sequence[Column], contestants: Found) -> str:
    lines = [["", *(head for head, _, _ in columns)], ["---"] * (len(columns) + 1)]
    for name, each in contestants.items():
        cells = [(value(each), shape) for _, value, shape in columns]
        lines.append([name, *(ABSENT if cell is None else format(cell, shape) for cell, shape in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _broken(contestants: Found) -> list[str]:
    """Name everyone of whom something is missing."""
    reasons = []
    for name, each in contestants.items():
        parts = [each, *(part for part in each.values() if isinstance(part, dict))]
        parts += [run for runs in each.values() if isinstance(runs, list) for run in runs]
        reasons += [f"{name}: {part['broken']}" for part in parts if "broken" in part]
    return ["Broken: " + "; ".join(dict.fromkeys(reasons)) + "."] if reasons else []


def _versions(contestants: Found) -> list[str]:
    known = dict.fromkeys(each["versions"] for each in contestants.values() if "versions" in each)
    return [re.sub(r"\s+", " ", versions) for versions in known]
