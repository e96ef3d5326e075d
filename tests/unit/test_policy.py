"""Decisions of the supervisor, without processes."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hotqueue.worker import cgroups, policy
from hotqueue.worker.policy import Death

HOUR_MS = 3_600_000
EXIT_0, EXIT_1 = 0, 1 << 8


def death(status: int, **known: Any) -> Death:
    facts = {"was_ready": True, "was_stopping": False, "was_told": False, "was_killed": False}
    return Death(status=status, lived_s=1.0, did=0, **facts | known)


@pytest.mark.parametrize(
    ("how", "clean", "crash"),
    [
        (death(EXIT_0, was_stopping=True), True, False),
        (death(EXIT_0, was_stopping=True, was_told=True), True, False),
        (death(EXIT_0), False, True),
        (death(EXIT_0, was_told=True), False, True),
        (death(EXIT_1, was_stopping=True), False, True),
        (death(signal.SIGSEGV), False, True),
        (death(signal.SIGKILL), False, True),
        (death(signal.SIGKILL, was_killed=True), False, False),
        (death(signal.SIGTERM), False, True),
        (death(signal.SIGTERM, was_told=True), False, False),
        (death(signal.SIGSEGV, was_told=True), False, True),
    ],
)
def test_only_a_death_that_was_seen_and_not_caused_is_a_crash(how: Death, clean: bool, crash: bool) -> None:  # noqa: FBT001
    assert (how.is_clean, how.is_crash) == (clean, crash)


def test_a_status_is_said_in_words() -> None:
    assert policy.how_it_ended(EXIT_1) == "exit code 1"
    assert policy.how_it_ended(signal.SIGSEGV) == "SIGSEGV"
    assert policy.how_it_ended(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"


def test_a_place_whose_children_die_at_once_is_filled_later_and_later() -> None:
    crashes, delays = 0, []
    for _ in range(10):
        crashes = policy.crashes_in_a_row(crashes, lived_s=0.1)
        delays.append(policy.respawn_delay_s(crashes))
    assert delays == [0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("good", [{"lived_s": 60.0}, {"lived_s": 0.1, "did": 1}])
def test_a_good_life_makes_earlier_deaths_forgotten(good: dict[str, Any]) -> None:
    assert policy.respawn_delay_s(policy.crashes_in_a_row(7, **good)) == 0


def test_a_worker_gives_up_when_each_child_died_three_times_and_none_was_ever_ready() -> None:
    assert not policy.must_give_up(5, 2, ever_ready=False)
    assert policy.must_give_up(6, 2, ever_ready=False)
    assert not policy.must_give_up(600, 2, ever_ready=True)


def test_crashes_of_the_last_72_hours_count_towards_a_burial() -> None:
    now = 1000 * HOUR_MS
    recent, old = now - 71 * HOUR_MS, now - 73 * HOUR_MS
    assert policy.must_bury([recent, recent, now], now, max_crashes=3)
    assert not policy.must_bury([old, recent, now], now, max_crashes=3)
    assert policy.must_bury([now], now, max_crashes=1)


def test_a_ctrl_c_within_a_second_of_the_stop_is_the_same_one() -> None:
    assert not policy.is_forced(100.0, 100.9)
    assert policy.is_forced(100.0, 101.0)


@pytest.mark.parametrize(
    ("group", "files", "cpus"),
    [
        ("0::/", {}, 64),
        ("0::/", {"cpu.max": "max 100000\n"}, 64),
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/", {"cpu.max": "nonsense"}, 64),
        ("0::/system.slice/a.service", {"system.slice/a.service/cpu.max": "150000 100000\n"}, 2),
        ("0::/system.slice/a.service", {"system.slice/b.service/cpu.max": "150000 100000\n"}, 64),
        (
            "0::/few.slice/a.service",
            {"few.slice/a.service/cpu.max": "800000 100000\n", "few.slice/cpu.max": "300000 100000\n"},
            3,
        ),
        ("0::/from/outside", {"cpu.max": "150000 100000\n"}, 2),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "400000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_the_quotas_of_a_cgroup_and_of_those_around_it_limit_the_usable_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, files: dict[str, str], cpus: int
) -> None:
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    own = tmp_path / "cgroup"
    own.write_text(f"{group}\n")
    monkeypatch.setattr(cgroups, "PROC_CGROUP", own)
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(64), raising=False)
    assert policy.usable_cpus()[0] == cpus


def test_by_default_there_are_eight_children_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "usable_cpus", lambda: (64, "64 usable CPUs"))
    assert policy.default_concurrency() == (8, "64 usable CPUs, 8 by default")
    monkeypatch.setattr(policy, "usable_cpus", lambda: (4, "4 usable CPUs"))
    assert policy.default_concurrency() == (4, "4 usable CPUs")
