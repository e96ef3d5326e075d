"""What becomes of the dead in the long run: they stay, unless a limit was set; many are worth a warning."""

import logging

from hotqueue import events, queue_scripts
from hotqueue.connection import Connection
from hotqueue.upkeep import RENEW_EVERY_S

MANY = 10_000
UNLIMITED_EVERY_S = 60.0


class Undertaker:
    """Looks after the dead list of one queue."""

    def __init__(
        self, queue: str, connection: Connection, max_dead: int | None, max_age_s: float | None
    ) -> None:
        """Nothing is sent yet. None is no limit."""
        self._queue = queue
        self._connection = connection
        self._max_dead = max_dead
        self._max_age_s = max_age_s
        self._every_s = UNLIMITED_EVERY_S if max_dead is None and max_age_s is None else RENEW_EVERY_S
        self._warned = False

    def trim(self) -> float:
        """Delete a bounded number of what is over the limits; return in how many seconds to come again.

        Raises NotSent, Refused or OutcomeUnknown.
        """
        self._connection.open()
        trimmed = queue_scripts.dead_trim(self._connection, self._queue, self._max_dead, self._max_age_s)
        if trimmed.deleted:
            events.emit(logging.WARNING, events.DEAD_TRIMMED, queue=self._queue, count=trimmed.deleted)
        if trimmed.left < MANY:
            self._warned = False
        elif not self._warned and not trimmed.more:
            self._warned = True
            reason = "see hotqueue dead ls; --max-dead and --max-dead-age set a limit"
            events.emit(
                logging.WARNING, events.DEAD_MANY, queue=self._queue, count=trimmed.left, reason=reason
            )
        return 0.0 if trimmed.more else self._every_s
