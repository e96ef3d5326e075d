"""Files that change are named to the supervisor."""

import threading
from pathlib import Path

import pytest

from hotqueue.worker.watcher import Watcher
from tests.support.waiting import wait_until


def test_a_file_that_is_saved_twice_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = threading.Semaphore(0)
    watcher = Watcher(seen.release)
    watcher.start()
    saved = tmp_path / "tasks.py"

    def is_seen() -> bool:
        with saved.open("a") as file:
            file.write("\n")
        return seen.acquire(blocking=False)

    try:
        wait_until(is_seen, 60, "the file is seen once")
        wait_until(is_seen, 60, "and once more")
        assert watcher.take() == ["tasks.py"]
    finally:
        watcher.stop()
