"""Death certificates: why a child has ended, as far as can be known, and what it ran."""

import logging
import os
import signal
import time
from collections import Counter, deque
from typing import Any

from hotqueue import events
from hotqueue.worker import oom, policy
from hotqueue.worker.book import Book
from hotqueue.worker.children import Child
from hotqueue.worker.policy import Death
from hotqueue.worker.processes import Ended
from hotqueue.worker.reading import Reading, told

MOST_CERTIFICATES = 50
MOST_STACK = 2000  # characters of each


class Coroner:
    """Writes death certificates, and knows whether the kernel has killed for want of memory meanwhile."""

    def __init__(self, book: Book) -> None:
        """Count from now on, in `book` too."""
        self._book = book
        self._oom = oom.Witness()
        self.ends: Counter[int] = Counter()  # of children, by slot
        self.certificates: deque[dict[str, Any]] = deque(maxlen=MOST_CERTIFICATES)

    def cause_of(self, status: int) -> str:
        """Say how a child ended; of SIGKILL also whether memory was short in this cgroup."""
        cause = policy.how_it_ended(status)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and self._oom.explains_one():
            return f"{cause}, out of memory"
        return cause

    def report(self, child: Child, ended: Ended, death: Death, reading: Reading, **known: Any) -> None:
        """Log one `child.exited` with all that is known, and keep it. `known` has cause and stack."""
        running = child.worst_first(reading.running)
        served = [child.home.served[each.queue] for each in running]
        is_culprit = death.is_crash and len(running) == 1
        lost = sum(each.delivery == "at-most-once" for each in served)
        usage = ended.usage
        certificate: dict[str, Any] = {
            "child": child.slot,
            "pid": ended.pid,
            **known,
            "lived_s": round(death.lived_s, 1),
            "done": death.did,
            "peak_mib": usage.peak_mib if usage else None,
            "cpu_s": usage.cpu_s if usage else None,
            **told(running),
            "handler": served[0].handler if served else None,
            "running_ms": running[0].for_ms if running else None,
        }
        level = logging.ERROR if death.is_crash or lost else logging.INFO
        events.emit(level, events.CHILD_EXITED, **certificate, lost=lost or None)
        self.ends[child.slot] += 1
        self._book.exits[known["cause"]] += 1
        for ran, by in zip(running, served, strict=True):
            what = "lost" if by.delivery == "at-most-once" else "crashed" if is_culprit else "interrupted"
            if what == "lost" or child.overran_s(ran) is None:  # else it is retried or buried: counted then
                self._book.broken_off[by.queue, by.handler, what] += 1
        stack = (known["stack"] or "")[:MOST_STACK] or None
        self.certificates.append({**certificate, "stack": stack, "at_ms": round(time.time() * 1000)})
