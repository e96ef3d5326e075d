"""What journald is told of a line on stderr: how bad it is.

See sd-daemon(3), and JOURNAL_STREAM in systemd.exec(5).
"""

import logging
import os

_STDERR = 2
_PRIORITIES = (
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
)
_DEBUG = "<7>"


def is_listening() -> bool:
    """Tell whether stderr goes to journald: systemd names the stream by its device and inode."""
    try:
        found = os.fstat(_STDERR)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def priority(level: int) -> str:
    """Return what stands in front of a line, and is taken away by journald.

    journald limits how many lines it keeps of each priority. If all had the same, a flood of `message.done`
    would have it drop the line that says how a child ended.
    """
    return next((mark for least, mark in _PRIORITIES if level >= least), _DEBUG)
