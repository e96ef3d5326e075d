"""Who a consumer is, in Redis and for people."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hotqueue import identity


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


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells this")
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
    assert json.loads(identity.owner())["started"] == ""
