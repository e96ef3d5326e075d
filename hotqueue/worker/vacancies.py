"""The slots that nobody has: when each may be filled again, and whether there is any hope left."""

import time
from collections.abc import Iterable

from hotqueue.worker import policy
from hotqueue.worker.policy import NEVER, Death

FORK_AGAIN_S = 1.0  # at the least, after the kernel refused one


class Vacancies:
    """Slots to fill, each at its time: one whose children die one after the other waits ever longer."""

    def __init__(self) -> None:
        """There are none, and nobody has died."""
        self._from_s: dict[int, float] = {}
        self._deaths: dict[int, int] = {}  # slot → in a row
        self._boot_deaths = 0
        self._ever_ready = False
        self.last_cause = ""

    def __len__(self) -> int:
        return len(self._from_s)

    def __contains__(self, slot: int) -> bool:
        return slot in self._from_s

    def add(self, slots: Iterable[int]) -> None:
        """Have these filled at once."""
        self._from_s |= dict.fromkeys(slots, 0.0)

    def pop(self, slot: int) -> None:
        """It is filled."""
        del self._from_s[slot]

    def give_up_one(self) -> None:
        """Fill one less."""
        self._from_s.popitem()

    def forgive(self) -> None:
        """Fill all at once: what crashed was old code."""
        self.add(self._from_s)
        self._deaths.clear()
        self._boot_deaths = 0

    @property
    def due(self) -> list[int]:
        """Those whose time has come."""
        now_s = time.monotonic()
        return [slot for slot, from_s in self._from_s.items() if now_s >= from_s]

    @property
    def next_s(self) -> float:
        """When the next one may be filled, by the monotonic clock; infinite if there is none."""
        return min(self._from_s.values(), default=NEVER)

    def learn(self, death: Death, cause: str) -> None:
        """Note how a child ended, whatever comes after it."""
        self.last_cause = cause
        self._ever_ready = self._ever_ready or death.was_ready

    def died(self, slot: int, death: Death) -> None:
        """A child of this slot has ended by itself, and the next one may do the same."""
        before = self._deaths.get(slot, 0)
        self._deaths[slot] = policy.crashes_in_a_row(before, lived_s=death.lived_s, did=death.did)
        self._boot_deaths += not death.was_ready
        self._from_s[slot] = time.monotonic() + policy.respawn_delay_s(self._deaths[slot])

    def refused(self, slot: int, error: str, *, stillborn: bool) -> float:
        """No child could be forked; return in how many seconds to try again."""
        self._deaths[slot] = self._deaths.get(slot, 0) + 1
        self._boot_deaths += stillborn
        self.last_cause = error
        delay_s = max(FORK_AGAIN_S, policy.respawn_delay_s(self._deaths[slot]))
        self._from_s[slot] = time.monotonic() + delay_s
        return delay_s

    def problem(self, wanted: int) -> str | None:
        """Say why no child of those `wanted` will ever come up, if that is so."""
        if policy.must_give_up(self._boot_deaths, wanted, ever_ready=self._ever_ready):
            return f"no child became ready, the last one ended with: {self.last_cause}"
        return None
