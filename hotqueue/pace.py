"""How many messages a consumer claims at once: as many as it will have run in a few milliseconds."""

import time
from collections.abc import Callable

MOST = 256
BUDGET_S = 0.010
PATIENCE_S = 0.020  # beyond the time that claimed work is meant to take


class Pace:
    """Follows the handler. A slower claim counts at once; faster ones are believed little by little."""

    def __init__(
        self, fixed: int | None, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Claim `fixed` messages whatever they take; or, with None, what takes about `budget_s` to run."""
        self.size = fixed or 1
        self._is_fixed = fixed is not None
        self._budget_s = budget_s
        self._clock = clock
        self._each_s = 0.0
        self._count = 0
        self._since_s = 0.0

    def begin(self, count: int) -> None:
        """So many messages have come."""
        if not self._is_fixed:
            self._count, self._since_s = count, self._clock()

    def end(self) -> None:
        """All of them were run."""
        if self._is_fixed or not self._count:
            return
        each_s = (self._clock() - self._since_s) / self._count
        self._each_s = max(each_s, (self._each_s + each_s) / 2)
        fitting = self._budget_s / self._each_s if self._each_s else MOST
        self.size = max(1, int(min(fitting, 2 * self.size, MOST)))
        self._count = 0

    def is_late(self) -> bool:
        """Tell whether they take much longer than they were meant to."""
        is_begun = not self._is_fixed and self._count > 0
        return is_begun and self._clock() - self._since_s > self._budget_s + PATIENCE_S

    def overstay(self) -> None:
        """One of them took so long that the rest was taken back."""
        if not self._is_fixed:
            self._each_s, self.size, self._count = self._budget_s, 1, 0
