"""What the pages about the `hotqueue` command show is what happens."""

import re
import shlex
import sys
from pathlib import Path

import click
import pytest
import redis

from hotqueue import HotQueue
from hotqueue.cli.dead import dead
from hotqueue.cli.group import hotqueue
from tests.support.admin import Admin
from tests.support.commands import run
from tests.support.transcript import Page

ROOT = Path(__file__).resolve().parents[2]
DEAD_LETTERS = Page(ROOT / "docs/how-to/dead-letters.md")
OPERATE = Page(ROOT / "docs/how-to/operate.md")


@pytest.fixture
def admin(redis_url: str, tmp_path: Path) -> Admin:
    return Admin(redis_url, tmp_path)


def without_accidents(lines: list[str]) -> list[str]:
    """Without ids, times and the folder."""
    message_id, moment = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    accidents = rf'{message_id}|{moment}(, \S+ before)?|(?<=File ").*/'
    return [re.sub(accidents, "…", line) for line in lines]


def follow(admin: Admin, command: str) -> None:
    """Run a command of the page, and compare what it prints with what the page shows below it."""
    words = shlex.split(command)
    ended = run(*words, env=admin.env, cwd=admin.cwd)
    assert ended.returncode == 0, ended.stderr
    assert without_accidents(ended.stdout.splitlines()) == without_accidents(DEAD_LETTERS.output_of(command))


def test_the_page_about_dead_messages_is_followed_from_the_failure_to_the_fix(admin: Admin) -> None:
    assert admin.cwd
    broken, mended = (block for block in DEAD_LETTERS.blocks("python") if block.startswith("# orders.py"))
    (admin.cwd / "orders.py").write_text(broken)
    commands = [
        command for command in DEAD_LETTERS.commands() if "|" not in command and " drop " not in command
    ]
    assert len(commands) == 8
    for command in commands:
        if "--dry-run" in command:
            (admin.cwd / "orders.py").write_text(mended)
        follow(admin, command)
    assert HotQueue("orders", url=admin.env["HOTQUEUE_URL"]).stats().total == 0


def test_the_python_on_the_page_about_dead_messages_runs(admin: Admin, client: redis.Redis) -> None:
    (source,) = (block for block in DEAD_LETTERS.blocks("python") if "dead.retry" in block)
    ended = run(sys.executable, "-c", source, env=admin.env)
    assert ended.returncode == 0, ended.stderr


def test_the_rule_on_the_page_is_the_one_that_is_printed(admin: Admin) -> None:
    (command,) = (command for command in OPERATE.commands() if "--acl" in command)
    assert admin(*shlex.split(command)[1:]).splitlines() == OPERATE.output_of(command)


def test_the_commands_that_the_pages_name_are_those_that_there_are() -> None:
    named = set(re.findall(r"\bhotqueue ([a-z]+)\b", OPERATE.text)) - {"command"}
    assert named == set(hotqueue.list_commands(click.Context(hotqueue)))
    assert set(re.findall(r"\bhotqueue dead ([a-z]+)\b", DEAD_LETTERS.text)) == set(dead.commands)
