"""What the kernel says of kills for want of memory: evidence for a death certificate. Linux."""

import contextlib
import re
import time

from hotqueue.worker import cgroups

AT_ONCE_S = 1.0
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class Witness:
    """Has seen how often the kernel has killed, and tells whether a death was one of these."""

    def __init__(self) -> None:
        """What was before is nobody's."""
        self._seen = kills()
        self._open = 0  # kills whose victim is not known yet
        self._until_s = 0.0

    def explains_one(self) -> bool:
        """Tell whether the kernel has just killed somebody who is not known yet. To be asked at a SIGKILL.

        Several children may be killed at once. What was a program of a handler's explains no later death.
        """
        count, now_s = kills(), time.monotonic()
        if now_s > self._until_s:
            self._open = 0
        if count > self._seen:
            self._open += count - self._seen
            self._seen, self._until_s = count, now_s + AT_ONCE_S
        if not self._open:
            return False
        self._open -= 1
        return True


def kills() -> int:
    """Return how often the kernel has killed in our cgroup for want of memory; 0 if it does not say.

    Version 2 says so in `memory.events`, and version 1 in `memory.oom_control`.
    """
    for folder in cgroups.folders("memory"):
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                if found := _KILLS.search((folder / name).read_text()):
                    return int(found[1])
    return 0
