"""Who a consumer is, in Redis and for people."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotqueue import identity
from tests.support.waiting import wait_until

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells this")


def test_no_two_incarnations_are_equal_and_none_is_0() -> None:
    drawn = [identity.new_incarnation() for _ in range(10_000)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 < each < 2**64 for each in drawn)


def test_random_bits_of_0_are_no_incarnation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity.secrets, "randbits", lambda _bits: 0)
    assert identity.new_incarnation() == 1


def test_a_fork_does_not_repeat_an_incarnation() -> None:
    read, write = os.pipe()
    if not (pid := os.fork()):
        os.write(write, identity.text(identity.new_incarnation()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100).decode() != identity.text(identity.new_incarnation())
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("incarnation", [1, 2**64 - 1, 0xABC])
def test_the_text_of_an_incarnation_is_16_digits_and_reads_back(incarnation: int) -> None:
    text = identity.text(incarnation)
    assert re.fullmatch("[0-9a-f]{16}", text)
    assert int(text, 16) == incarnation


def test_the_owner_says_host_and_pid() -> None:
    owner = json.loads(identity.owner())
    assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())


@needs_proc
def test_the_owner_tells_a_process_from_a_later_one_with_its_pid() -> None:
    owner = json.loads(identity.owner())
    assert owner["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert re.fullmatch(r"pid:\[\d+\]", owner["pidns"])
    code = "from hotqueue import identity; print(identity.owner())"
    other = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert int(other["started"]) > int(owner["started"])
    assert {**other, "pid": 0, "started": 0} == {**owner, "pid": 0, "started": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process can be called so")
def test_a_process_name_with_brackets_and_spaces_does_not_shift_the_start_time() -> None:
    code = (
        "import os; from pathlib import Path; from hotqueue import identity; pid = os.getpid();"
        " before = identity._started(pid); Path('/proc/self/comm').write_text(') R 1 (x');"
        " assert identity._started(pid) == before != ''"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_there_is_no_proc_the_owner_is_still_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_read", lambda _path: "")
    monkeypatch.setattr(identity, "_host", identity._host.__wrapped__)  # its cache would outlive the test
    assert json.loads(identity.owner())["started"] == ""


SAY_OWNER = "from hotqueue import identity; print(identity.owner(), flush=True); input()"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """A process that lives until it is killed or its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", SAY_OWNER], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def owner_said_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    owner: dict[str, Any] = json.loads(process.stdout.readline())
    return owner


def is_gone(owner: object) -> bool:
    return identity.is_gone(json.dumps(owner).encode())


@needs_proc
def test_an_owner_is_gone_once_its_process_has_ended_also_before_anybody_reaped_it(
    other: subprocess.Popen[str],
) -> None:
    owner = owner_said_by(other)
    assert not is_gone(owner)
    other.kill()
    wait_until(lambda: is_gone(owner), what="the zombie counts as gone")
    other.wait()
    assert is_gone(owner)


@needs_proc
def test_an_owner_whose_pid_somebody_else_has_now_is_gone(other: subprocess.Popen[str]) -> None:
    owner = owner_said_by(other)
    assert is_gone(owner | {"started": "1"})
    assert not is_gone(owner)


@needs_proc
def test_an_owner_is_not_gone_while_who_watches_it_lives(other: subprocess.Popen[str]) -> None:
    owner = owner_said_by(other)
    other.kill()
    other.wait()
    watched = json.loads(identity.owner(watched_by=os.getpid()))["watcher"]
    assert not is_gone(owner | {"watcher": watched})
    assert is_gone(owner | {"watcher": watched | {"started": "1"}})


@needs_proc
@pytest.mark.parametrize("elsewhere", [{"boot": "another"}, {"pidns": "pid:[1]"}, {"boot": ""}], ids=str)
def test_an_owner_on_another_machine_or_in_another_namespace_is_never_known_to_be_gone(
    other: subprocess.Popen[str], elsewhere: dict[str, str]
) -> None:
    owner = owner_said_by(other)
    other.kill()
    other.wait()
    assert is_gone(owner | {"host": "renamed meanwhile"})
    assert not is_gone(owner | elsewhere)


@needs_proc
def test_a_process_that_proc_hides_is_not_gone_and_one_that_has_ended_is(
    other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with hidepid: the kernel says of each pid whether it is in use, but not by whom."""
    owner = owner_said_by(other)
    monkeypatch.setattr(identity, "_stat", lambda _pid: [])
    assert not is_gone(owner)

    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(identity.os, "kill", refuse)
        assert not is_gone(owner)
    other.kill()
    other.wait()
    assert is_gone(owner)


@pytest.mark.parametrize("nonsense", [None, b"", b"not JSON", b"[]", b"{}", b"7", b"\xff"])
def test_an_owner_that_says_nothing_is_not_known_to_be_gone(nonsense: bytes | None) -> None:
    assert not identity.is_gone(nonsense)


def test_where_there_is_no_proc_nobody_is_known_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_host", lambda: {"host": "mac", "boot": "", "pidns": ""})
    assert not is_gone({"pid": 2**22 + 1, "started": "1", "host": "mac", "boot": "", "pidns": ""})
