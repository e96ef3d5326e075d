"""The rounds of whoever looks after several queues: what is due for each of them, and when to come again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.upkeep import RENEW_EVERY_S, TEND_EVERY_S, Upkeep

RETRY_S = (0.2, 5.0)


@dataclass(slots=True)
class _Turn:
    upkeep: Upkeep
    tend_s: float = 0.0
    renew_s: float = 0.0
    failures: int = 0


class Rounds:
    """Does what is due for each queue. One that fails is tried again later, and holds up no other."""

    def __init__(
        self,
        upkeeps: Mapping[str, Upkeep],
        incarnations: Callable[[str], list[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`incarnations` says whose leases on a queue are ours to renew."""
        self._turns = {queue: _Turn(upkeep) for queue, upkeep in upkeeps.items()}
        self._incarnations = incarnations
        self._clock = clock

    def begin(self) -> None:
        """Release at once what gone processes of this machine held. Raises what Redis made fail."""
        for turn in self._turns.values():
            turn.upkeep.take_over_neighbours()

    @property
    def next_s(self) -> float:
        """When the next thing is due, on the clock."""
        return min(min(turn.tend_s, turn.renew_s) for turn in self._turns.values())

    @property
    def are_leases_fresh(self) -> bool:
        """Whether every queue's last renewal succeeded; a failed one leaves its turn in arrears."""
        return all(not turn.failures for turn in self._turns.values())

    def paused(self) -> list[str]:
        """Return the queues that are paused."""
        return [queue for queue, turn in self._turns.items() if turn.upkeep.is_paused]

    def work(self) -> None:
        """Do what is due."""
        now_s = self._clock()
        for queue, turn in self._turns.items():
            if now_s >= min(turn.tend_s, turn.renew_s):
                try:
                    self._work(queue, turn, now_s)
                    turn.failures = 0
                except (NotSent, OutcomeUnknown):
                    turn.upkeep.forget()
                    turn.failures += 1
                    again_s = now_s + min(RETRY_S[1], RETRY_S[0] * 2 ** min(turn.failures, 10))
                    turn.tend_s = turn.renew_s = again_s

    def _work(self, queue: str, turn: _Turn, now_s: float) -> None:
        if now_s >= turn.renew_s:
            turn.upkeep.renew(self._incarnations(queue))
            turn.upkeep.take_over()
            turn.renew_s = now_s + RENEW_EVERY_S
        if now_s >= turn.tend_s:
            turn.tend_s = now_s + TEND_EVERY_S
            turn.tend_s = now_s + turn.upkeep.tend()
