"""The real commands as real processes.

with start("hotqueue-worker", "tasks", env={"HOTQUEUE_URL": redis_url}, cwd=tmp_path) as worker:
    wait_until(lambda: worker.events("child.ready"), what="a child is ready")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.processes import kill_all, members
from tests.support.waiting import PATIENCE
from tests.support.watchdog import watchdog

COMMANDS = {
    "hotqueue-worker": [sys.executable, "-m", "hotqueue.worker"],
    "hotqueue": [sys.executable, "-m", "hotqueue"],
}
_DROPPED = {"REDIS_URL", "NO_COLOR", "FORCE_COLOR", "PYTHONPATH", "DJANGO_SETTINGS_MODULE"}


class Running:
    """A command in a session of its own; leaving the `with` block kills all of it and asserts just that."""

    def __init__(self, argv: list[str], env: Mapping[str, str], cwd: Path | None) -> None:
        self.argv = argv
        self._mark = f"TEST_PROCESS={uuid.uuid4().hex}"  # finds those that left the session
        self._folder = tempfile.TemporaryDirectory()
        self._stdout = Path(self._folder.name, "stdout")
        self._stderr = Path(self._folder.name, "stderr")
        name, _, value = self._mark.partition("=")
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                COMMANDS.get(argv[0], argv[:1]) + argv[1:],
                # A runtime folder of its own: there the status files of others would have the same name.
                env=_clean_environment() | {"XDG_RUNTIME_DIR": self._folder.name} | dict(env) | {name: value},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        watchdog().watch(self.pid)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stdout_text(self) -> str:
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    def stderr_text(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """The JSON log events on stderr so far; other lines, and one not whole yet, are passed over."""
        whole = [line for line in self.stderr_text().splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in whole if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("event") == name]

    def signal(self, number: int) -> None:
        """To the command alone, as `docker stop` and systemd's KillMode=mixed do."""
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """To the whole group, as Ctrl-C in a terminal does."""
        os.killpg(self.pid, number)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit code; minus the signal's number if one killed it."""
        seconds = timeout * PATIENCE
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            msg = f"after {seconds:g} s still running: {' '.join(self.argv)}"
            raise AssertionError(msg) from None

    def left(self) -> set[int]:
        """The processes of the command that live now, with descendants and whoever left the session."""
        return members([self.pid], self._mark)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            kill_all(self.left)
        finally:
            self.process.wait(60)
            watchdog().forget(self.pid)
            if error is not None:
                error.add_note(f"{' '.join(self.argv)} said on stderr:\n{self.stderr_text()}")
            self._folder.cleanup()


def start(*argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Running:
    """Start `hotqueue-worker …`, `hotqueue …` or anything else; nothing of our PYTHONPATH goes with it."""
    return Running(list(argv), env or {}, cwd)


def run(
    *argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    with start(*argv, env=env, cwd=cwd) as command:
        code = command.wait(timeout)
        return subprocess.CompletedProcess(command.argv, code, command.stdout_text(), command.stderr_text())


def app(tmp_path: Path, source: str, name: str = "tasks") -> Path:
    """Write the module `name` into `tmp_path`, the folder to give as `cwd` or PYTHONPATH."""
    path = tmp_path / f"{name}.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def _clean_environment() -> dict[str, str]:
    """Our environment without what a developer may have set for HotQueue."""
    return {k: v for k, v in os.environ.items() if k not in _DROPPED and not k.startswith("HOTQUEUE_")}
