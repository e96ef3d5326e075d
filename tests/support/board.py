"""What a scoreboard would hold of one lane, to be read after its death."""

from hotqueue.delivery import Delivery, Unwatched
from hotqueue.worker.layout import NO_CLAIM


class Board(Unwatched):
    """A consumer's progress, in plain attributes."""

    def __init__(self) -> None:
        self.incarnation = self.client_id = self.begun = self.done = 0
        self.claim = NO_CLAIM

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        self.claim, self.incarnation, self.client_id = NO_CLAIM, incarnation, client_id

    def claimed(self, queue: str, claim: int, size: int) -> None:
        self.claim, self.begun, self.done = claim, 0, 0

    def started(self, delivery: Delivery) -> bool:
        self.done, self.begun = delivery.index, delivery.index + 1
        return True

    def finished(self, queue: str, index: int) -> None:
        self.done = index + 1
