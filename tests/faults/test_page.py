"""The page of faults names tests that exist, and every test of a fault."""

import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/explanation/faults.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/.]+\.py)::(test_\w+\*?)`", PAGE)


def names_in(path: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_test_that_the_page_of_faults_names_exists() -> None:
    assert NAMED
    for file, pattern in NAMED:
        path = ROOT / file if "/" in file else ROOT / "tests/faults" / file
        assert [name for name in names_in(path) if fnmatch(name, pattern)], f"{file}::{pattern}"


def test_every_test_of_a_fault_is_named_on_the_page() -> None:
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            patterns = [pattern for file, pattern in NAMED if file == path.name]
            unnamed = [name for name in names_in(path) if not any(fnmatch(name, each) for each in patterns)]
            assert unnamed == [], path.name
