"""The status file, as the supervisor writes it; `hotqueue/status.py` is how it is found and read."""

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotqueue import events, status


class StatusFile:
    """One file, written whole or not at all. Whatever goes wrong with it is logged once, and work goes on."""

    def __init__(self, name: str, path: str | None) -> None:
        """`path` is where it shall lie; None is in the first folder of `status.folders` that can be had."""
        self._name = name
        self._path = None if path is None else Path(path).absolute()
        self._is_ours = False
        self._problem = ""

    def write(self, record: Mapping[str, Any]) -> None:
        """Put `record` there, unless another living worker has put its own there."""
        try:
            self._path = self._path or _folder() / f"{self._name}.json"
            if not self._is_ours:
                _check_free(self._path)
            fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            fresh.write_text(json.dumps(record), encoding="utf-8")
            fresh.replace(self._path)
        except OSError as error:
            self._fail(str(error))
        else:
            self._is_ours, self._problem = True, ""

    def remove(self) -> None:
        """Take it away, if it is ours."""
        if self._path is not None and self._is_ours:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            events.emit(logging.WARNING, events.STATUS_FAILED, reason=problem)


def _folder() -> Path:
    refused = ""
    for folder in map(Path, status.folders()):
        try:
            folder.mkdir(mode=0o700 if folder.parent != Path("/run") else 0o755, exist_ok=True)
        except OSError as error:
            refused = str(error)
            continue
        if os.access(folder, os.W_OK):
            return folder
        refused = f"{folder} is not writable"
    msg = f"no folder for the status file can be had ({refused}): name one with --status-file"
    raise OSError(msg)


def _check_free(path: Path) -> None:
    """Raise OSError if another worker writes this file, or if it is none that could be replaced."""
    if path.exists() and not path.is_file():  # a device, even /dev/null
        msg = f"{path} is no regular file: name another one with --status-file"
        raise OSError(msg)
    try:
        found = status.read(str(path))
        pid = int(found["pid"])
        taken = pid != os.getpid() and status.is_alive(found)
        taken = taken and status.age_s(found, time.monotonic()) <= status.OLD_S
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if taken:
        msg = f"another worker, pid {pid}, writes {path}: give this one a name of its own with --name"
        raise OSError(msg)
