"""The README is run: its files, its commands, and the output that it shows."""

import re
import signal
import sys
from pathlib import Path

import pytest

from hotqueue import events
from tests.support.commands import run, start
from tests.support.processes import inhabitants, kill_all
from tests.support.servers import free_port
from tests.support.transcript import Page, shown
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TERMINAL = {"HOTQUEUE_LOG_FORMAT": "console", "NO_COLOR": "1"}
PROMISE = (
    "while the Redis primary keeps its data, a message that `enqueue` accepted is run at least once"
    " to an end of its handler, or lies in the dead list with the reason."
)
PAGES = ["README.md", "docs/index.md", "docs/explanation/delivery.md"]


@pytest.fixture
def readme() -> Page:
    return Page(ROOT / "README.md")


def test_the_ten_lines_do_what_is_shown_below_them(readme: Page, private_folder: Path) -> None:
    private_folder.mkdir()
    assert readme.write_files(private_folder) == ["tasks.py"]
    worker, enqueue = "hotqueue-worker tasks --concurrency 2 --embedded", "python tasks.py"
    assert {worker, enqueue} <= set(readme.commands())

    environment = TERMINAL | {"HOTQUEUE_URL": f"redis://localhost:{free_port()}/0"}
    with start(*worker.split(), env=environment, cwd=private_folder) as first:
        wait_until(lambda: first.stderr_text().count("child.started") == 2, 30, "both children are there")
        second = run(sys.executable, *enqueue.split()[1:], env=environment, cwd=private_folder)
        assert second.stdout + second.stderr == ""
        wait_until(lambda: first.stderr_text().count("message.done") == 2, 30, "both are greeted")
        first.signal(signal.SIGINT)
        assert first.wait() == 0
        real = first.stdout_text() + first.stderr_text()
        assert first.left() == set()

    assert shown(real.splitlines()) == shown(readme.blocks("text")[0].splitlines())
    kill_all(lambda: inhabitants(private_folder))


def test_every_other_command_is_one_of_installing_or_making(readme: Page) -> None:
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in readme.commands():
        program, _, rest = command.partition(" ")
        if program == "make":
            assert rest in targets
        elif program == "pip":
            assert rest in {"install 'hotqueue>=1'", "install '.[embedded]'"}
        else:
            assert program in {"python", "hotqueue-worker"}, command


def test_the_subcommands_that_are_named_exist(readme: Page) -> None:
    named = set(re.findall(r"^\| `hotqueue (\w+)", readme.text, re.MULTILINE))
    listed = set(
        re.findall(r"^  (\w+)  ", run("hotqueue", "--help").stdout.partition("Commands:")[2], re.MULTILINE)
    )
    assert named
    assert named <= listed


@pytest.mark.parametrize("page", PAGES)
def test_the_promise_is_made_in_the_same_words_everywhere(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert PROMISE in text.replace("While the", "while the")


@pytest.mark.parametrize("page", PAGES[:2])
def test_the_danger_of_pickle_is_named(page: str) -> None:
    assert "Whoever can write to Redis can run code in a worker" in (ROOT / page).read_text(encoding="utf-8")


def test_every_page_that_the_readme_links_to_is_there(readme: Page) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", readme.text)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_a_page_that_readers_begin_with_names_every_other_they_may_need(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    others = [*(ROOT / "docs/how-to").glob("*.md"), *(ROOT / "docs/explanation").glob("*.md")]
    assert [other.name for other in others if f"{other.parent.name}/{other.name})" not in text] == []


def test_whoever_installs_from_an_index_names_the_bound() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    installs = [line for line in lines if re.search(r"pip install .*hotqueue", line)]
    assert installs
    assert [line for line in installs if not re.search(r"hotqueue(\[[\w,]+\])?>=1'", line)] == []


def test_the_page_about_the_log_has_every_event_and_no_other() -> None:
    text = (ROOT / "docs/reference/log.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([\w]+\.[\w]+)`", row)}
    assert listed == {value for name, value in vars(events).items() if name.isupper()}
