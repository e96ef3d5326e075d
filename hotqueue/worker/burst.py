"""A burst: when a worker that shall work off what is there, and then end, has nothing left to do."""

import time
from collections.abc import Callable

from hotqueue.worker.crew import Crew

AGAIN_S = 0.2  # to look again where the children find nothing to do, and yet it is not known to be over


class Burst:
    """Looks whether nothing is left, sends the children home if so, and looks once more when they are gone.

    Only that look is the truth. A child that seems to wait may have been sent a message a moment ago, and a
    handler may enqueue to a queue that was looked at before. If there is something after all, they come back.
    """

    def __init__(self, crew: Crew, ask: Callable[[], None]) -> None:
        """`ask` asks Redis whether anything is left; the answer goes to `is_over`."""
        self._crew = crew
        self._ask = ask
        self._looking = False
        self._again_s = 0.0
        self.is_leaving = False  # the children are on their way home, and nobody takes their places

    def look(self) -> None:
        """Look if it is time for it."""
        ready = not self._crew.children if self.is_leaving else self._crew.is_idle
        if not ready:
            self._again_s = 0.0
        elif not self._looking and time.monotonic() >= self._again_s:
            self._looking = True
            self._ask()

    def is_over(self, *, empty: bool) -> bool:
        """Take the answer to a look, and tell whether the burst is over."""
        self._looking = False
        if self.is_leaving and empty:
            return True
        if not empty:
            self._again_s = time.monotonic() + AGAIN_S
        if self.is_leaving:
            self.is_leaving = False
        elif empty and self._crew.is_idle:
            self.is_leaving = True
            self._crew.terminate()
        return False
