"""What a keeper does for one queue again and again: its part of the upkeep, told to the children."""

from hotqueue import identity
from hotqueue.connection import Connection
from hotqueue.upkeep import RENEW_EVERY_S, Upkeep
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings
from hotqueue.worker.undertaker import Undertaker


class Care:
    """The chores of one queue. They return in how many seconds to come again, and raise what Redis does."""

    def __init__(self, queue: str, connection: Connection, board: Scoreboard, settings: Settings) -> None:
        """Nothing is sent yet."""
        self._upkeep = Upkeep(queue, connection)
        self.undertaker = Undertaker(queue, connection, settings.max_dead, settings.max_dead_age)
        self._board = board
        self._index = board.queues.index(queue)

    def begin(self) -> None:
        """Do what the first child must find done: a pause is seen, what vanished neighbours held is back."""
        self._upkeep.take_over_neighbours()
        self.tend()
        self.renew()

    def renew(self) -> float:
        """Renew the leases of the children, and take over those of others that have lapsed."""
        names = {identity.text(each): each for each in self._board.incarnations(self._index)}
        gone = self._upkeep.renew(list(names))
        self._board.lost(self._index, [names[name] for name in gone])
        self._board.renewed(self._index)
        self._upkeep.take_over()
        return RENEW_EVERY_S

    def tend(self) -> float:
        """Move due messages, sweep, and have the children see whether the queue is paused."""
        again_s = self._upkeep.tend()
        self._board.pause(self._index, paused=self._upkeep.is_paused)
        if self._upkeep.is_paused or self._board.is_quiet:
            self._upkeep.end_waits(self._board.clients(self._index))
        return again_s
