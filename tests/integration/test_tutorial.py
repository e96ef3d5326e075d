"""The tutorial is followed, step by step; only the naps are shorter."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Running, run, start
from tests.support.transcript import Page, shown
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    page = Page(ROOT / "docs/tutorial.md")
    assert page.write_files(tmp_path) == ["tasks.py", "slow.py"]
    poem = next(command for command in page.commands() if command.startswith("printf"))
    subprocess.run(poem, shell=True, cwd=tmp_path, check=True)
    return page


@pytest.fixture
def environment(redis_url: str) -> dict[str, str]:
    return {"HOTQUEUE_URL": redis_url, "HOTQUEUE_LOG_FORMAT": "console", "NO_COLOR": "1"}


@pytest.fixture
def says(page: Page, environment: dict[str, str], tmp_path: Path) -> Callable[[str], None]:
    """Runs the one command with these words and compares its output."""

    def follow(words: str, instead: tuple[str, str] = ("", "")) -> None:
        (command,) = [command for command in page.commands() if words in command]
        source = re.fullmatch(r'python -c "(.*)"', command)
        assert source, command
        ended = run(sys.executable, "-c", source[1].replace(*instead), env=environment, cwd=tmp_path)
        assert shown((ended.stdout + ended.stderr).splitlines()) == shown(page.output_of(command))

    return follow


class Told:
    """What a worker has said since the last time."""

    def __init__(self, worker: Running) -> None:
        self._worker = worker
        self._before: Counter[str] = Counter()

    def _new(self) -> Counter[str]:
        return shown((self._worker.stdout_text() + self._worker.stderr_text()).splitlines()) - self._before

    def skip_to(self, word: str) -> None:
        wait_until(lambda: word in self._worker.stderr_text(), 30, f"the worker says {word}")
        self._before += self._new()

    def is_shown_in(self, block: str) -> None:
        expected = shown(block.splitlines())
        wait_until(lambda: expected <= self._new(), 30, f"the worker says what the page shows:\n{block}")
        assert self._new() == expected
        self._before += expected


def test_what_is_typed_into_python_answers_as_shown(
    page: Page, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "session.txt").write_text("\n".join(page.blocks("pycon")), encoding="utf-8")
    ended = run(sys.executable, "-m", "doctest", "session.txt", env=environment, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_handler_counts_and_fails_as_shown(
    page: Page, says: Callable[..., None], environment: dict[str, str], tmp_path: Path
) -> None:
    begin, done, buried = page.blocks("text")[:3]
    says("; count('poem.txt')")
    command = "hotqueue-worker tasks --concurrency 2"
    assert command in page.commands()
    with start(*command.split(), env=environment, cwd=tmp_path) as worker:
        told = Told(worker)
        told.is_shown_in(begin)
        says("print(count.send('poem.txt'))")
        told.is_shown_in(done)
        says("count.send('novel.txt')")
        told.is_shown_in(buried)
        listed = "hotqueue dead ls texts"
        ended = run(*listed.split(), env=environment, cwd=tmp_path)
        assert ended.stdout.splitlines()[1:] == page.output_of(listed)[1:]


def test_a_killed_process_and_a_stopped_worker_do_as_shown(
    page: Page, says: Callable[..., None], environment: dict[str, str], tmp_path: Path
) -> None:
    nap, killed, stopped = page.blocks("text")[3:]
    command = "hotqueue-worker slow --concurrency 1"
    assert command in page.commands()
    with start(*command.split(), env=environment, cwd=tmp_path) as worker:
        told = Told(worker)
        told.skip_to("child.started")
        says("nap.send(20)", ("20", "6"))
        told.is_shown_in(nap)
        found = re.search(r"process (\d+)", worker.stdout_text())
        assert found
        os.kill(int(found[1]), signal.SIGKILL)
        told.is_shown_in(killed)
        worker.signal(signal.SIGINT)
        assert worker.wait() == 0
        told.is_shown_in(stopped)
