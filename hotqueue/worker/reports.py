"""What keepers report to the main loop."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Connected:
    """Redis answers, and lets us do what we have to."""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """It will not serve us, however long we wait."""

    problem: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Something has failed that nobody thought of. The worker must end, and has the leases until it does."""

    problem: str


@dataclass(frozen=True, slots=True)
class Drained:
    """Whether nothing was waiting or in flight here when it was looked at."""

    empty: bool


@dataclass(frozen=True, slots=True)
class HandedBack:
    """Messages of a dead child that are back at the head of their queue; `ids` are of some of them."""

    count: int
    ids: tuple[str, ...]


Report = Connected | Hopeless | Broken | Drained | HandedBack
