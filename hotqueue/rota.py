"""Whose turn it is: the order in which a consumer looks at its queues."""

from collections.abc import Mapping, Sequence


class Rota:
    """In turn by default; by weight if there are weights; always in the order given if `strict`."""

    def __init__(self, queues: Sequence[str], *, strict: bool = False, weights: Mapping[str, int] | None = None) -> None:
        """`weights` has a positive number for each queue; its share of the messages while all have some."""
        self._weights = {queue: (weights or {}).get(queue, 1) for queue in queues}
        self._total = sum(self._weights.values())
        self._credit = dict.fromkeys(queues, 0)
        self._fixed = tuple(queues) if strict or len(queues) == 1 else None

    def order(self) -> Sequence[str]:
        """Return all queues, the one whose turn it is first."""
        if self._fixed is not None:
            return self._fixed
        return sorted(self._credit, key=lambda queue: -self._credit[queue] - self._weights[queue])

    def served(self, queue: str) -> None:
        """Note that a message of `queue` was taken. Smooth weighted round-robin, as nginx does it.

        An empty queue's credit is capped, so that it cannot push the others aside for long once it fills.
        """
        if self._fixed is not None:
            return
        for name, weight in self._weights.items():
            self._credit[name] = min(self._credit[name] + weight, self._total)
        self._credit[queue] -= self._total
