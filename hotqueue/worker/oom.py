"""What the kernel says of kills for want of memory: evidence for a death certificate. Linux."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
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

    See cgroups(7): `memory.events` of version 2, and `memory.oom_control` of version 1.
    """
    for file in _files():
        try:
            found = _KILLS.search(file.read_text())
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _files() -> Iterator[Path]:
    """Yield where the count may be. A container may see its cgroup as the root, and its path from outside."""
    try:
        lines = PROC_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for root in (CGROUPS, CGROUPS / "unified"):
                yield root / path.lstrip("/") / "memory.events"
            yield CGROUPS / "memory.events"
        elif "memory" in controllers.split(","):
            yield CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            yield CGROUPS / "memory" / "memory.oom_control"
