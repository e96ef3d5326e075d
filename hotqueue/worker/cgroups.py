"""Where the kernel keeps what it counts and what it allows us: the folders of our control group. Linux.

See cgroups(7). Both versions may be there, each with some of the controllers.
"""

from collections.abc import Iterator
from pathlib import Path

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def folders(controller: str) -> Iterator[Path]:
    """Yield where our files of `controller` may be.

    A container may see its group as the root, and its path from outside.
    """
    try:
        lines = PROC_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for root in (CGROUPS, CGROUPS / "unified"):
                yield root / path.lstrip("/")
            yield CGROUPS
        elif controller in controllers.split(","):
            yield CGROUPS / controller / path.lstrip("/")
            yield CGROUPS / controller
