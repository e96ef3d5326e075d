"""Recycling: a child that has done enough, or has grown too large, makes room for a fresh one."""

import logging
from collections.abc import Iterable

from hotqueue import events
from hotqueue.worker import processes
from hotqueue.worker.children import Child


class Recycling:
    """Marks children as leaving. They go on until their successor is ready, and finish what they run."""

    def __init__(self, max_messages: int | None, max_memory: float | None) -> None:
        """`max_memory` is in MiB. Each child has up to a tenth more, so that they do not all go at once."""
        self._max_messages = max_messages
        self._max_memory = max_memory

    def look(self, children: Iterable[Child]) -> None:
        """Mark those that are over a limit."""
        if self._max_messages is None and self._max_memory is None:
            return
        for child in children:
            if not child.is_leaving and (reason := self._reason(child)) is not None:
                child.is_leaving = True
                events.emit(
                    logging.INFO, events.CHILD_RECYCLED, child=child.slot, pid=child.pid, reason=reason
                )

    def _reason(self, child: Child) -> str | None:
        done = child.home.board.begun(child.slot)
        if self._max_messages is not None and done >= self._max_messages * child.spread:
            return f"{done} messages"
        if self._max_memory is None:
            return None
        memory_mib = processes.memory_mib(child.pid)
        return f"{memory_mib:.0f} MiB" if memory_mib > self._max_memory * child.spread else None
