"""The benchmarks can be run, and say what they measure."""

import sys
from pathlib import Path

import pytest

from tests.support.commands import run

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


WITH_OPTIONS = sorted({path.name for path in FOLDER.glob("*.py")} - {"counts.py", "ledger.py"})


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_a_benchmark_says_what_it_measures(name: str) -> None:
    done = run(sys.executable, name, "--help", cwd=FOLDER)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 2
