"""Whose turn it is: the order in which a consumer looks at its queues."""

import math
from collections.abc import Mapping, Sequence


class Rota:
    """In turn by default; by weight if there are weights; always in the order given if `strict`."""

    def __init__(
        self, queues: Sequence[str], *, strict: bool = False, weights: Mapping[str, int] | None = None
    ) -> None:
        """`weights` has a positive number for each queue; its share of the messages while all have some."""
        shares = {queue: (weights or {}).get(queue, 1) for queue in queues}
        self._strides = {queue: math.lcm(*shares.values()) // share for queue, share in shares.items()}
        self._turns = dict.fromkeys(queues, 0)
        self._fixed = tuple(queues) if strict or len(queues) == 1 else None

    def order(self) -> Sequence[str]:
        """Return all queues, the one whose turn it is first."""
        return self._fixed or sorted(self._turns, key=self._turns.__getitem__)

    def served(self, queue: str) -> None:
        """Note that a message of `queue` was taken: the smaller its weight, the later is its next turn.

        Whoever had an earlier turn was empty, and has lost it: nobody saves up turns to push the others
        aside with later.
        """
        if self._fixed is not None:
            return
        now = self._turns[queue]
        for other, turn in self._turns.items():
            if turn < now:
                self._turns[other] = now
        self._turns[queue] = now + self._strides[queue]
