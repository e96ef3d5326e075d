"""A memory cgroup of a test's own, where the machine lets us make one: version 2, or version 1."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def small_cgroup(mebibytes: int) -> Iterator[Path]:
    """A cgroup that may hold so much memory; to be entered by writing a pid to its cgroup.procs."""
    version_1 = (ROOT / "memory").is_dir()
    folder = (ROOT / "memory" if version_1 else ROOT) / f"hotqueue-test-{os.getpid()}"
    try:
        if not version_1:
            (ROOT / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        limit = folder / ("memory.limit_in_bytes" if version_1 else "memory.max")
        limit.write_text(str(mebibytes << 20))
        with contextlib.suppress(OSError):  # version 2, with swap
            (folder / "memory.swap.max").write_text("0")
        yield folder
    finally:
        wait_until(lambda: _removed(folder), 20, "nobody is left in the cgroup")


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
