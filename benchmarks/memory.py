"""What a worker with four idle children takes of memory: the proportional set size of each process. Linux."""

import re
from pathlib import Path

from support.running import worker
from support.server import private_server


def main() -> None:
    with private_server() as server, worker(server) as one:
        one.wait_until_idle()
        sizes = {name: _pss(pid) for name, pid in sorted(one.members().items())}
    print("PSS, MB (of it shared with no other process)")
    for name, (pss, private) in sizes.items():
        print(f"{name:12} {pss:6.1f} ({private:.1f})")
    print(f"{'all':12} {sum(pss for pss, _ in sizes.values()):6.1f}")


def _pss(pid: int) -> tuple[float, float]:
    said = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    private = int(said["Private_Clean"]) + int(said["Private_Dirty"])
    return int(said["Pss"]) / 1024, private / 1024


if __name__ == "__main__":
    main()
