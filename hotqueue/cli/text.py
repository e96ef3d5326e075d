"""How things are written for people: safe for a terminal, aligned, no wider than it is."""

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from unicodedata import combining, east_asian_width

_AGES = ((86400.0, "d", 48 * 3600.0), (3600.0, "h", 100 * 60.0), (60.0, "m", 100.0), (1.0, "s", 10.0))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_EXACT_S, _WHOLE_S = 0.00995, 0.9995  # below it tenths of a millisecond, or milliseconds, are told
_SHORTEST = 8  # characters left of the first column of a table


def printable(text: str) -> str:
    """Return one line with nothing in it that a terminal obeys: what lies in Redis may come from anybody."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def columns(text: str) -> int:
    """Return how many columns of a terminal printable text takes: some characters take two, some none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def fit(text: str, width: int | None) -> str:
    """Cut `text` to `width` columns, with an ellipsis; None is any width."""
    if width is None or columns(text) <= width:
        return text
    kept, room = "", width - 1
    for each in text:
        room -= columns(each)
        if room < 0:
            break
        kept += each
    return f"{kept}…"


def screen_width() -> int | None:
    """Return how many columns the terminal has; None where stdout is no terminal, and nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def age(seconds: float | None) -> str:
    """Return a time span in two to four characters or so; a dash where it is not known."""
    if seconds is None:
        return "-"
    for unit_s, unit, least_s in _AGES:
        if seconds >= least_s:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{max(seconds, 0):.1f}s"


def duration(seconds: float | None) -> str:
    """Return a time span as `age` does, and below a second in milliseconds."""
    if seconds is None or seconds >= _WHOLE_S:
        return age(seconds)
    return f"{seconds * 1000:.{0 if seconds >= _EXACT_S else 1}f}ms"


def size(count: int) -> str:
    """Return a number of bytes, rounded."""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def some(count: int, noun: str, plural: str = "") -> str:
    """Return `1 message`, `2,000 messages`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def moment(when: datetime) -> str:
    """Return a time in this machine's zone."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Return aligned lines: the first column to the left, the others to the right.

    Where that is wider than `width` the first column is cut.
    """
    widths = [max(map(columns, column)) for column in zip(head, *rows, strict=True)]
    if width is not None and (excess := sum(widths) + 2 * (len(widths) - 1) - width) > 0:
        widths[0] = max(_SHORTEST, widths[0] - excess)
    lines = []
    for row in (head, *rows):
        first = fit(row[0], widths[0])
        first += " " * (widths[0] - columns(first))
        others = (f"{cell:>{space}}" for cell, space in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join((first, *others)).rstrip())
    return lines
