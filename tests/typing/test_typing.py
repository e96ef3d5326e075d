"""mypy --strict accepts and rejects what it should of the API, as a user's program would be checked."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("accepted_and_rejected.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Line → the errors that mypy finds in it."""
    folder = tmp_path_factory.mktemp("program")
    config = folder / "mypy.ini"
    config.write_text("[mypy]\nstrict = true\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", config, "--no-error-summary", PROGRAM],
        cwd=folder,
        env=os.environ | {"MYPY_CACHE_DIR": str(Path(__file__).parents[2] / ".mypy_cache" / "typing")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode in {0, 1}, checked.stdout + checked.stderr
    errors: dict[int, str] = {}
    for line, text in re.findall(r"^[^:]+:(\d+): error: (.*)$", checked.stdout, re.MULTILINE):
        errors[int(line)] = errors.get(int(line), "") + text + "\n"
    return errors


def expected() -> dict[int, str]:
    lines = enumerate(PROGRAM.read_text(encoding="utf-8").splitlines(), 1)
    return {number: line.partition("# E: ")[2] for number, line in lines if "  # E: " in line}


def test_what_is_right_is_accepted(found: dict[int, str]) -> None:
    assert {line: error for line, error in found.items() if line not in expected()} == {}


def test_what_is_wrong_is_rejected_for_the_right_reason(found: dict[int, str]) -> None:
    wanted = expected()
    assert len(wanted) > 10
    assert {line: text for line, text in wanted.items() if text not in found.get(line, "")} == {}
