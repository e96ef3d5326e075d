"""The benchmark beside other queues: it runs, names who is missing, and leaves no process behind."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.support.commands import start

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROCESSES = 4  # of the worker that is killed
TINY = ("--rounds=1", "--seconds=0.1", "--no-pinned", "--idle=0.1", "--probes=3", "--wait=30")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers import report  # noqa: PLC0415 - found only now

    return report


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_benchmark_prints_its_tables_and_leaves_no_process(tmp_path: Path) -> None:
    with start(
        sys.executable, "-m", "peers.run", *TINY, "--only=HotQueue", f"--folder={tmp_path}", cwd=BENCHMARKS
    ) as ended:
        assert ended.wait(120) == 0, ended.stderr_text()
        assert ended.left() == set()
        text = ended.stdout_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len([row for row in rows if row.startswith("| HotQueue |")]) == 3
    assert "Broken" not in text
    killed = next(row for row in reversed(rows) if row.startswith("| HotQueue |"))
    not_run, run_twice = map(int, killed.split(" | ")[1:3])
    assert not_run == 0
    assert run_twice <= PROCESSES  # what had ended, and Redis was not told


def results(**peer: Any) -> dict[str, Any]:
    shape = {"back": "", "lives": True}
    run = {
        "count": 100,
        "seconds": 0.5,
        "client_cpu": 0.1,
        "server_cpu": 0.1,
        "round_trips": 7,
        "commands": 9,
    }
    run["send"] = {"sent": 10, "seconds": 1.0, "cpu_s": 0.1, "commands": 1.0}  # type: ignore[assignment]
    ours = {**shape, "versions": "hotqueue 1", "1 unpinned": [run], "4 unpinned": [run]}
    return {
        "contestants": {"HotQueue": ours, "Other": {**shape, **peer}},
        "machine": "a machine, load 0.1",
        "load_after": "load 0.2",
        "server": "valkey 9",
        "rounds": 1,
        "wait": 1,
    }


@pytest.mark.parametrize(
    "peer",
    [
        {"broken": "cannot be installed: no such package"},
        {"1 unpinned": [{"broken": "no such package"}]},
        {"resident": {"broken": "no such package"}},
    ],
    ids=["not installed", "does not drain", "does not idle"],
)
def test_a_peer_that_is_broken_keeps_its_row_and_the_reason_is_told(report: ModuleType, peer: Any) -> None:
    text = report.markdown(results(**peer)).replace(report.ABSENT, "?")
    assert "| Other | ? | ? |" in text
    assert "Broken: Other: " in text
    assert "no such package" in text
    assert "| HotQueue | 200 | ? | 200 |" in text


def test_only_what_stands_between_the_markers_of_the_page_is_replaced(report: ModuleType) -> None:
    page = "before\n<!-- make bench: begin -->\nold\n<!-- make bench: end -->\nafter\n"
    assert report.between_markers(page, "new") == page.replace("old", "\nnew\n")
    with pytest.raises(SystemExit, match="needs"):
        report.between_markers("no markers", "new")


def test_the_page_has_the_markers(report: ModuleType) -> None:
    page = (BENCHMARKS.parent / "docs/explanation/speed.md").read_text(encoding="utf-8")
    assert "new figures" in report.between_markers(page, "new figures")


def test_the_plot_is_svg_and_has_a_row_for_who_was_not_measured(report: ModuleType) -> None:
    drawn = report.chart.dots("A & B", {"HotQueue": (10.0, 2000.0), "Other": (None, None)})
    texts = [text.text for text in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"A & B", "HotQueue", "2,000", "Other", "not measured"} <= set(texts)
