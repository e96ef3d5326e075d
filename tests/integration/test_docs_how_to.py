"""The how-to pages are followed from top to bottom: their files, their programs, their commands."""

import doctest
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from hotqueue import HotQueue
from tests.support.commands import COMMANDS, run, start
from tests.support.proxy import proxy_to
from tests.support.servers import LiveServer
from tests.support.transcript import Page
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs/how-to"
FOLLOWED = ["delays-and-unique", "hooks", "many-messages", "own-loops", "pause", "retries"]
NAMED = re.compile(r"# (\w+\.py)\b")
ACCIDENTS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@pytest.fixture
def environment(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("HOTQUEUE_URL", redis_url)
    return {"HOTQUEUE_URL": redis_url, "PYTHONPATH": str(ROOT)}


class Reader:
    """Somebody who does what a page says, in an empty folder."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._names: dict[str, Any] = {}  # those of the one session that all pycon blocks of a page are

    def follow(self, page: Page) -> list[str]:
        """Do every step; return the programs and commands that were run."""
        done = []
        for language, source in page.steps:
            if source.startswith("--8<--"):  # an example, which test_examples.py runs
                continue
            if language == "python":
                named = NAMED.match(source)
                assert named, f"a block of python says in its first line what file it is:\n{source}"
                (self._folder / named[1]).write_text(source, encoding="utf-8")
            elif language == "pycon":
                self._type(source)
            elif language == "console":
                for command in re.findall(r"^\$ (.+)$", source, re.MULTILINE):
                    self._run(command, page.output_of(command))
                    done.append(command)
        return done

    def _type(self, source: str) -> None:
        session = doctest.DocTestParser().get_doctest(source, self._names, "page", None, None)
        said: list[str] = []
        failed = doctest.DocTestRunner().run(session, out=said.append, clear_globs=False).failed
        self._names = session.globs
        assert not failed, "".join(said)

    def _run(self, command: str, shown: list[str]) -> None:
        program, _, rest = command.partition(" ")
        words = {name: " ".join(argv) for name, argv in COMMANDS.items()} | {"python": sys.executable}
        ended = run(
            "sh", "-c", f"{words.get(program, program)} {rest}", env=self._environment, cwd=self._folder
        )
        assert ended.returncode == 0, ended.stderr
        printed = [ACCIDENTS.sub("…", line) for line in ended.stdout.splitlines()]
        assert printed == [ACCIDENTS.sub("…", line) for line in shown]


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_is_followed_from_top_to_bottom(
    name: str, environment: dict[str, str], tmp_path: Path
) -> None:
    assert Reader(environment, tmp_path).follow(Page(HOW_TO / f"{name}.md"))


def test_the_tests_of_the_page_on_tests_pass(
    redis_url: str, environment: dict[str, str], tmp_path: Path
) -> None:
    page = Page(HOW_TO / "testing.md")
    page.write_files(tmp_path)
    conftest = tmp_path / "conftest.py"
    conftest.write_text(conftest.read_text().replace("redis://localhost:7379/0", redis_url))
    (command,) = page.commands()
    ended = run(*command.replace("python", sys.executable, 1).split(), env=environment, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert "5 passed" in ended.stdout


@pytest.mark.parametrize("page", sorted(path.stem for path in HOW_TO.glob("*.md")))
def test_all_python_of_a_page_is_python(page: str) -> None:
    for source in Page(HOW_TO / f"{page}.md").blocks("python"):
        included = re.match(r'--8<-- "(.+)"', source)
        if included:
            source = (ROOT / included[1]).read_text(encoding="utf-8")  # noqa: PLW2901 - what a reader sees
        compile(source, page, "exec")


@pytest.mark.parametrize("point", ["before the request", "before the reply"])
def test_an_order_whose_acceptance_is_unknown_is_placed_once_as_the_page_shows(
    environment: dict[str, str], server: LiveServer, tmp_path: Path, point: Any
) -> None:
    Page(HOW_TO / "delays-and-unique.md").write_files(tmp_path)
    orders = HotQueue("orders", url=server.url)
    orders.send("warm up", unique="other")  # so that the server has the script
    with proxy_to(server.port) as proxy:
        proxy.harm(point, on=b"unique:order-1")
        source = "import orders; orders.place({'number': 1})"
        ended = run(sys.executable, "-c", source, env=environment | {"HOTQUEUE_URL": proxy.url}, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert list(orders.consume(block=False)) == ["warm up", {"number": 1}]


def test_a_loop_that_turns_term_into_an_exception_leaves_in_order(
    environment: dict[str, str], server: LiveServer, tmp_path: Path
) -> None:
    Page(HOW_TO / "own-loops.md").write_files(tmp_path)
    bills = HotQueue("bills", url=server.url)
    bills.enqueue({"number": 1})
    with start(sys.executable, "stopping.py", env=environment, cwd=tmp_path) as loop:
        wait_until(lambda: "bill 1" in loop.stdout_text())
        wait_until(lambda: bills.stats().done == 1 and server.admin.info("clients")["blocked_clients"])
        loop.signal(signal.SIGTERM)
        assert loop.wait() == 0
        assert loop.stderr_text() == ""
    assert (bills.stats().consumers, bills.stats().total) == (0, 0)
