"""A child that the kernel kills for want of memory: in a real cgroup, and by the files that are read."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from hotqueue.worker import cgroups, oom
from tests.support.cgroups import small_cgroup
from tests.support.commands import COMMANDS, start
from tests.support.shop import Shop
from tests.support.waiting import wait_until

IN_CGROUP = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


def test_a_child_that_the_kernel_kills_for_its_memory_has_that_on_its_certificate(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note("began", message)
            if current().attempt == 1:
                bytearray(600 << 20)
    """)
    shop.queue.enqueue("a")
    with small_cgroup(300) as folder:
        worker_argv = [*COMMANDS["hotqueue-worker"], "tasks", "-c1"]
        with start("sh", "-c", IN_CGROUP, str(folder), *worker_argv, env=shop.env, cwd=shop.folder) as worker:
            shop.wait_for_notes("began a", "began a")
            (died,) = wait_until(lambda: worker.events("child.exited"), 20, "it was killed")
            assert (died["cause"], died["handler"]) == ("SIGKILL, out of memory", "handle")
            assert 100 < died["peak_mib"] < 310
            (released,) = wait_until(lambda: worker.events("message.released"), what="the release is logged")
            assert released["reason"] == "SIGKILL, out of memory"


FILES: Mapping[str, tuple[str, str, int]] = {
    "version 2": ("0::/a/b", "a/b/memory.events", 3),
    "version 2 with its path outside": ("0::/docker/123", "memory.events", 3),
    "version 2 as its root": ("0::/", "memory.events", 3),
    "both versions": ("4:memory:/a\n3:cpu:/\n0::/", "memory/a/memory.oom_control", 3),
    "version 1 with its path outside": ("4:cpu,memory:/docker/123", "memory/memory.oom_control", 3),
    "another controller": ("3:cpu:/a", "memory/a/memory.oom_control", 0),
    "nothing": ("", "memory/memory.oom_control", 0),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_count_is_found_wherever_the_kernel_keeps_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, name, expected = FILES[kind]
    own = tmp_path / "cgroup"
    own.write_text(f"{said}\n")
    file = tmp_path / "fs" / name
    file.parent.mkdir(parents=True)
    file.write_text("low 0\noom 5\noom_kill 3\noom_group_kill 0\n")
    monkeypatch.setattr(cgroups, "PROC_CGROUP", own)
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path / "fs")
    assert oom.kills() == expected
    file.write_text("oom_kill_disable 0\nunder_oom 0\n")  # of an old kernel
    assert oom.kills() == 0


def test_each_kill_explains_one_death_and_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    count, now = [5], [100.0]
    monkeypatch.setattr(oom, "kills", lambda: count[0])
    monkeypatch.setattr(oom.time, "monotonic", lambda: now[0])
    witness = oom.Witness()
    assert not witness.explains_one()
    count[0] += 2
    assert [witness.explains_one() for _ in range(3)] == [True, True, False]
    count[0] += 2
    assert witness.explains_one()
    now[0] += 5
    assert not witness.explains_one()


def test_where_there_are_no_cgroups_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "PROC_CGROUP", tmp_path / "none")
    assert oom.kills() == 0
