"""What a page of the documentation shows, to be held against reality: files, commands and their output.

page = Page(ROOT / "README.md")
page.write_files(tmp_path)                      # python blocks that begin with the name of a file
page.output_of("python tasks.py")               # the lines below that command
assert shown(page.block("text")) == shown(real)
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EVENT = re.compile(r"^(?:\d\d:\d\d:\d\d|TIME) \[(\w+) *\] (\S+) +(.*)$")
_ON_TERMINALS = {"hint"}
_ACCIDENTS = {
    *("busy", "child", "done", "cpu_s", "duration_ms", "folder", "id", "lived_s", "oldest_s", "peak_mib"),
    *("pid", "port", "redis", "running_ms", "wait_ms"),
}


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.steps = [(match[1], match[2]) for match in _BLOCK.finditer(self.text)]  # language and source

    def blocks(self, language: str) -> list[str]:
        return [source for found, source in self.steps if found == language]

    def write_files(self, folder: Path) -> list[str]:
        """Write each python block whose first line is a comment with a file's name; return the names."""
        found = [re.match(r"# (\w+\.py)\n", source) for source in self.blocks("python")]
        files = {match[1]: match.string for match in found if match}
        for name, source in files.items():
            (folder / name).write_text(source, encoding="utf-8")
        return list(files)

    def commands(self) -> list[str]:
        """Everything after a dollar sign."""
        return re.findall(r"^\$ (.+)$", "\n".join(self.blocks("console")), re.MULTILINE)

    def output_of(self, command: str) -> list[str]:
        """The lines that a console block shows after `command`, to the next command or the block's end."""
        for block in self.blocks("console"):
            _, found, after = f"\n{block}".partition(f"\n$ {command}\n")
            if found:
                return re.split(r"^\$ ", after, flags=re.MULTILINE)[0].splitlines()
        msg = f"the page does not show {command!r}"
        raise AssertionError(msg)


def shown(lines: Iterable[str]) -> Counter[str]:
    """What lines say, whatever their order, and without times, ids, and what else differs from run to run.

    Of a traceback only the first and the last line count.
    """
    return Counter(_essence(line) for line in lines if line.strip() and not line.startswith("  "))


def _essence(line: str) -> str:
    match = _EVENT.match(line.removeprefix("^C"))  # as a terminal shows it
    if match is None:
        return re.sub(r"\bprocess \d+|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "…", line.rstrip())
    level, event, rest = match.groups()
    fields = (word.partition("=") for word in shlex.split(rest))
    told = [
        f"{key}=…" if key in _ACCIDENTS else f"{key}={value}"
        for key, _, value in fields
        if key not in _ON_TERMINALS
    ]
    return " ".join([level, event, *told])
