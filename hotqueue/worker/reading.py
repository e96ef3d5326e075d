"""What somebody who reads the scoreboard finds there of a child."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotqueue.worker.layout import NO_CLAIM

MOST_IDS = 20  # that are told


@dataclass(frozen=True, slots=True)
class Place:
    """What one seat holds of one queue. `started` and `finished` count frames of the claim."""

    queue: str
    incarnation: int
    client_id: int
    claim: int
    started: int
    finished: int
    size: int = 0
    seen_as: str = ""  # how the server names the child's end of the connection

    @property
    def is_running(self) -> bool:
        """Whether a frame was started and not finished."""
        return self.started > self.finished

    @property
    def is_held(self) -> bool:
        """Whether frames may lie on its list that are not known to be done there."""
        return bool(self.incarnation) and (self.claim == NO_CLAIM or self.started > 0 or self.size > 0)


@dataclass(frozen=True, slots=True)
class Running:
    """The message that a seat is busy with; `number` says which of all it has begun."""

    queue: str
    id: str | None
    since_ns: int
    seat: int = 0
    number: int = 0

    @property
    def message(self) -> dict[str, Any]:
        """Which one, as the log says it."""
        return {"queue": self.queue, "id": self.id}

    @property
    def for_ms(self) -> int:
        """For how long."""
        return round((time.monotonic_ns() - self.since_ns) / 1e6)


@dataclass(frozen=True, slots=True)
class Reading:
    """One child's record as it was at one moment."""

    state: int
    ended: int  # messages
    running: tuple[Running, ...]  # oldest first
    places: tuple[tuple[Place, ...], ...]  # of each seat


def told(running: Sequence[Running]) -> Mapping[str, Any]:
    """Return what the log says of the first of these, and if there are more, how many and which."""
    if len(running) < 2:  # noqa: PLR2004 - it may be none
        return running[0].message if running else {}
    ids = [each.id for each in running if each.id is not None]
    return {**running[0].message, "running": len(running), "running_ids": ids[:MOST_IDS]}
