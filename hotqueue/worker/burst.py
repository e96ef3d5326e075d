"""A burst: when a worker that shall work off what is there, and then end, has nothing left to do."""

from hotqueue.worker.crew import Crew


class Burst:
    """It is over when two looks in a row found nothing, and nothing was begun in between.

    One look is not enough: it asks one queue after the other, and a handler may enqueue behind its back.
    """

    def __init__(self, crew: Crew) -> None:
        """Nobody has looked yet."""
        self._crew = crew
        self._looking = False
        self._begun_when_empty: int | None = None

    def must_look(self) -> bool:
        """Tell whether it is time for a look; its answer goes to `is_over`."""
        if self._looking or not self._crew.is_idle:
            return False
        self._looking = True
        return True

    def is_over(self, *, empty: bool) -> bool:
        """Take the answer to a look, and tell whether the burst is over."""
        self._looking = False
        begun = self._crew.begun() if empty and self._crew.is_idle else None
        over = begun is not None and begun == self._begun_when_empty
        self._begun_when_empty = begun
        return over
