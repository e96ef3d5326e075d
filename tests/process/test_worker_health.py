"""What a worker tells those on its host: the status file, `hotqueue health`, and the pid file."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from hotqueue import status
from tests.support.commands import Running, run, start
from tests.support.servers import fresh_server
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

HANDLER = """
    @queue.worker
    def handle(message):
        note("began", message)
        wait_for("go")
"""


@pytest.fixture
def runtime(shop: Shop, tmp_path: Path) -> Path:
    """The runtime folder of the worker and of who asks about it."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    shop.env |= {"XDG_RUNTIME_DIR": str(folder), "HOTQUEUE_NAME": tmp_path.name}
    return folder


def asked(runtime: Path, *words: str) -> tuple[int, str]:
    """Ask for the worker of this test, not for a stranger whose file lies in the system's folder."""
    name = () if any(word.startswith(("-n", "--name")) for word in words) else ("-n", runtime.parent.name)
    done = run("hotqueue", "health", *name, *words, env={"XDG_RUNTIME_DIR": str(runtime)})
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, done.stdout.strip()


def answers(runtime: Path, code: int, question: str, expected: str) -> None:
    """Wait until this is the answer."""

    def answer() -> bool:
        said = asked(runtime, question)
        return said[0] == code and expected in said[1]

    wait_until(answer, 30, f"{question} is answered with {expected}")


def pid_in(path: Path) -> int:
    return int(path.read_text())


def test_a_worker_is_live_from_its_start_ready_with_its_children_and_unknown_after_its_end(
    shop: Shop, runtime: Path
) -> None:
    assert asked(runtime, "--live")[0] == 1
    shop.write("note('importing')\nwait_for('import')", HANDLER)
    with shop.open("-c2") as worker:
        shop.wait_for_notes("importing")
        assert asked(runtime, "--live") == (0, f"live: pid {worker.pid}, starting, 0 of 2 children ready")
        assert asked(runtime, "--ready") == (1, "not ready: it does not reach Redis")
        shop.allow("import")
        answers(runtime, 0, "--ready", f"ready: pid {worker.pid}, running, 2 of 2 children ready")
        shop.queue.enqueue("a")
        shop.wait_for_notes("importing", "began a")
        worker.signal(signal.SIGTERM)
        answers(runtime, 1, "--ready", "not ready: it is stopping")
        assert asked(runtime, "--live")[0] == 0
        shop.allow("go")
        assert worker.wait() == 0
    code, said = asked(runtime, "--live")
    assert (code, list(runtime.rglob("*.json"))) == (1, [])
    assert said.startswith(f"not live: there is no status file of a worker '{shop.env['HOTQUEUE_NAME']}' in ")


def test_without_redis_a_worker_is_live_and_not_ready(shop: Shop, runtime: Path, tmp_path: Path) -> None:
    shop.write(HANDLER)
    with fresh_server(tmp_path / "own") as server, shop.open("-c1", "-u", server.url) as worker:
        answers(runtime, 0, "--ready", "1 of 1 children ready")
        server.stop()
        answers(runtime, 1, "--ready", "not ready: it does not reach Redis")
        assert asked(runtime, "--live")[0] == 0
        worker.signal(signal.SIGQUIT)
        worker.wait()


def test_a_worker_whose_children_cannot_start_is_live_and_not_ready(shop: Shop, runtime: Path) -> None:
    shop.write("os.register_at_fork(before=lambda: (note('forking'), time.sleep(1000)))", HANDLER)
    with shop.open("-c1") as worker:
        shop.wait_for_notes("forking")
        answers(runtime, 1, "--ready", "not ready: none of its 1 children is ready")
        assert asked(runtime, "--live")[0] == 0
        worker.signal(signal.SIGQUIT)
        worker.wait()


def test_a_quiet_worker_is_live_and_not_ready_until_it_goes_on(shop: Shop, runtime: Path) -> None:
    shop.write(HANDLER)
    with shop.open("-c1") as worker:
        answers(runtime, 0, "--ready", "ready: ")
        worker.signal(signal.SIGTSTP)
        answers(runtime, 1, "--ready", "not ready: it begins nothing new until CONT")
        assert asked(runtime, "--live")[0] == 0
        worker.signal(signal.SIGCONT)
        answers(runtime, 0, "--ready", "ready: ")


def test_a_killed_supervisor_is_not_live_at_once(shop: Shop, runtime: Path) -> None:
    shop.write(HANDLER)
    with shop.open("-c1") as worker:
        ready(worker)
        worker.signal(signal.SIGKILL)
        worker.wait()
        assert asked(runtime, "--live") == (1, f"not live: its supervisor, pid {worker.pid}, is gone")
        gone(worker)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"pid": os.getpid(), "turned_s": time.monotonic() - 60}, "has not written for"),
        ({"pid": os.getpid(), "turned_s": time.monotonic() + 1e6}, "has not written for inf s"),
        ({"pid": os.getpid()}, "is no status file of a worker"),
        ([], "is no status file of a worker"),
        ("{", "is no status file of a worker"),
    ],
    ids=["old", "of another boot", "incomplete", "no object", "no JSON"],
)
def test_a_status_file_that_says_nothing_good_is_not_live(
    tmp_path: Path, content: Any, expected: str
) -> None:
    path = tmp_path / "status"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    code, said = asked(tmp_path, "--live", "--status-file", str(path))
    assert code == 1
    assert expected in said


def test_a_probe_loads_neither_the_library_nor_a_client_of_redis(tmp_path: Path) -> None:
    done = run("hotqueue", "health", "--live", env={"PYTHONPROFILEIMPORTTIME": "1"}, cwd=tmp_path)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hotqueue.status" in loaded
    assert not {"click", "redis", "structlog", "hotqueue.queue", "hotqueue.connection", "asyncio"} & loaded


def test_a_probe_is_answered_in_the_same_way_however_it_asks(tmp_path: Path) -> None:
    path = tmp_path / "status"
    path.write_text(json.dumps({"pid": os.getpid(), "turned_s": 0.0}))
    by_variable = {"HOTQUEUE_STATUS_FILE": str(path)}
    short = run("hotqueue", "health", "--ready", env=by_variable)
    assert short.stdout.startswith("not ready: its supervisor, pid ")
    for words, env in ((["--ready", f"--status-file={path}"], {}), (["--name=x", "--ready"], by_variable)):
        long = run("hotqueue", "health", *words, env=env)
        assert (long.returncode, long.stdout.split()[:6]) == (1, short.stdout.split()[:6])
    said = [run("hotqueue", "health", "--live", *words).stdout for words in (["-n", "x"], ["-nx"])]
    assert [each.partition(" in ")[0] for each in said] == [
        "not live: there is no status file of a worker 'x'"
    ] * 2


def test_a_probe_that_asks_nothing_is_a_mistake() -> None:
    done = run("hotqueue", "health")
    assert (done.returncode, done.stderr) == (
        2, "hotqueue: Ask for --live or --ready. See hotqueue health --help\n",
    )  # fmt: skip


def test_workers_with_names_of_their_own_are_told_apart(shop: Shop, runtime: Path) -> None:
    shop.write(HANDLER)
    with shop.open("-c1", "--name=one") as one, shop.open("-c1", "-n", "two") as two:
        ready(one), ready(two)
        assert str(one.pid) in asked(runtime, "--live", "-n", "one")[1]
        assert str(two.pid) in asked(runtime, "--live", "--name=two")[1]
        assert sorted(path.name for path in runtime.rglob("*.json")) == ["one.json", "two.json"]


def test_of_two_workers_with_one_name_the_second_says_so_and_the_file_stays_the_first_s(
    shop: Shop, runtime: Path
) -> None:
    shop.write(HANDLER)
    with shop.open("-c1") as first:
        ready(first)
        with shop.open("-c1") as second:
            ready(second)
            (warned,) = second.events("status.failed")
            assert f"another worker, pid {first.pid}, writes " in warned["reason"]
            second.signal(signal.SIGTERM)
            assert second.wait() == 0
        assert str(first.pid) in asked(runtime, "--live")[1]


def test_a_check_beside_a_worker_of_the_same_name_is_silent_and_takes_nothing_from_it(
    shop: Shop, runtime: Path, tmp_path: Path
) -> None:
    shop.write(HANDLER)
    pid = tmp_path / "worker.pid"
    with shop.open("-c1", f"--pid={pid}") as worker:
        ready(worker)
        answers(runtime, 0, "--ready", "ready")
        checked = shop.run("--check", f"--pid={pid}", env={"HOTQUEUE_LOG_LEVEL": "info"})
        assert (checked.returncode, checked.stderr) == (0, "")
        assert pid_in(pid) == worker.process.pid
        assert asked(runtime, "--ready")[0] == 0


def test_a_status_file_that_cannot_be_written_is_said_once_and_work_goes_on(
    shop: Shop, tmp_path: Path
) -> None:
    shop.write(HANDLER)
    shop.allow("go")
    shop.queue.enqueue("a")
    with shop.open("-c1", f"--status-file={tmp_path}/no/folder") as worker:
        shop.wait_for_notes("began a")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert len(worker.events("status.failed")) == 1


def test_what_is_no_file_is_neither_replaced_nor_removed(shop: Shop, tmp_path: Path) -> None:
    shop.write(HANDLER)
    os.mkfifo(pipe := tmp_path / "pipe")
    refused = shop.run("--pid", str(pipe))
    assert refused.returncode == 2
    assert refused.stderr == f"hotqueue-worker: {pipe} cannot be the pid file: it is no regular file\n"
    with shop.open("-c1", "--status-file", str(pipe)) as worker:
        ready(worker)
        wait_until(lambda: worker.events("status.failed"), 20, "it is said")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        (said,) = worker.events("status.failed")
    assert said["reason"] == f"{pipe} is no regular file: name another one with --status-file"
    assert pipe.is_fifo()


def test_without_a_runtime_folder_the_file_is_in_one_that_only_its_user_may_open(
    shop: Shop, tmp_path: Path
) -> None:
    shop.write(HANDLER)
    env = {"XDG_RUNTIME_DIR": str(tmp_path / "missing"), "TMPDIR": str(tmp_path)}
    if os.access("/run", os.W_OK):
        pytest.skip("this user may have /run/hotqueue")
    with shop.open("-c1", env=env) as worker:
        ready(worker)
        folder = tmp_path / f"hotqueue-{os.getuid()}"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert run("hotqueue", "health", "--live", env=env).returncode == 0


def test_a_temporary_folder_of_somebody_else_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    ours = f"{tmp_path}/hotqueue-{os.getuid()}"
    assert ours in status.folders()
    Path(ours).symlink_to(tmp_path)
    assert ours not in status.folders()


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a\nb", "x" * 101])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    done = run("hotqueue-worker", "tasks", "--name", name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot name a file" in done.stderr


# --- the pid file


def open_with_pid_file(shop: Shop, path: Path) -> Running:
    shop.write(HANDLER)
    return shop.open("-c1", "--pid", str(path))


def test_a_pid_file_names_the_supervisor_and_is_gone_after_it(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    with open_with_pid_file(shop, path) as worker:
        ready(worker)
        assert pid_in(path) == worker.pid
        second = shop.run("--pid", str(path))
        said = f"hotqueue-worker: {path} is in use by the worker with pid {worker.pid}: stop that, or name"
        assert (second.returncode, second.stderr) == (4, f"{said} another file with --pid\n")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert not path.exists()


def test_a_pid_file_that_is_another_s_by_now_is_not_removed(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    with open_with_pid_file(shop, path) as worker:
        ready(worker)
        path.rename(tmp_path / "moved")
        path.write_text("another's")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert path.read_text() == "another's"


def test_a_pid_file_that_may_not_be_removed_does_not_spoil_the_end(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("""
import os
from pathlib import Path

def refuse(path, missing_ok=False):
    if path.name == "worker.pid":
        raise PermissionError
    os.unlink(path)

Path.unlink = refuse
""")
    shop.env["PYTHONPATH"] = str(tmp_path)
    with open_with_pid_file(shop, tmp_path / "worker.pid") as worker:
        ready(worker)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.lines()[-1]["event"] == "supervisor.stopped"


def test_the_pid_file_of_a_killed_worker_is_taken_over_also_if_its_pid_lives_again(
    shop: Shop, tmp_path: Path
) -> None:
    path = tmp_path / "worker.pid"
    path.write_text(f"{os.getpid()}\n")  # alive, and no worker
    with open_with_pid_file(shop, path) as worker:
        ready(worker)
        assert pid_in(path) == worker.pid
        worker.signal(signal.SIGKILL)
        worker.wait()
        with open_with_pid_file(shop, path) as successor:
            ready(successor)
            assert pid_in(path) == successor.pid


def test_a_pid_file_that_cannot_be_is_a_mistake(tmp_path: Path) -> None:
    with start("hotqueue-worker", "tasks", "--pid", f"{tmp_path}/no/folder") as worker:
        assert worker.wait() == 2
        assert worker.stderr_text().endswith("cannot be the pid file: No such file or directory\n")
