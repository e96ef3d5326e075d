"""Company: what the seats of one child have in common.

One of them waits on Redis for all: a child parks as many connections as if it had one seat. And what is
suspected of a crash is run alone, so that the next crash has one culprit.
"""

import threading


class Company:
    """Used by the threads of all seats. Where no deadline is given, `end` ends a wait."""

    def __init__(self) -> None:
        """Nobody waits, and nothing runs."""
        lock = threading.Lock()
        self._lead = threading.Condition(lock)  # it is free
        self._room = threading.Condition(lock)  # something has ended
        self._is_led = False
        self._running = 0
        self._is_closed = False  # by one that is alone, or waits until it is
        self._is_over = False
        self._lost = 0  # seats that do not reach Redis

    def lead(self, within_s: float | None = None) -> bool:
        """Wait until no other seat waits on Redis, and it may; False once that is over or takes too long."""
        with self._lead:
            is_free = self._lead.wait_for(lambda: self._is_over or not self._is_led, within_s)
            if self._is_over or not is_free:
                return False
            self._is_led = True
            return True

    def pass_on(self) -> None:
        """Let the next seat wait on Redis."""
        with self._lead:
            self._is_led = False
            self._lead.notify()

    def has_room(self) -> bool:
        """Wait while a seat is alone, or is to be; False if it is over."""
        if self._is_closed:
            with self._room:
                self._room.wait_for(lambda: self._is_over or not self._is_closed)
        return not self._is_over

    def enter(self, *, alone: bool) -> bool:
        """Begin to run something; to be alone, wait until the others have ended what they run.

        False if another one is alone or waits for that: then it may take long, and others should have the
        message.
        """
        with self._room:
            if self._is_closed:
                return False
            if alone:
                self._is_closed = True
                self._room.wait_for(lambda: self._is_over or not self._running)
                if self._is_over:
                    self._open()
                    return False
            self._running += 1
            return True

    def leave(self, *, alone: bool) -> None:
        """End what `enter` began."""
        with self._room:
            self._running -= 1
            if alone:
                self._open()
            elif self._is_closed and not self._running:
                self._room.notify_all()

    def end(self) -> None:
        """End all waits: no seat begins anything more."""
        with self._room:
            self._is_over = True
            self._lead.notify_all()
            self._room.notify_all()

    def lost(self) -> bool:
        """Note that a seat does not reach Redis; return whether it is the first."""
        with self._room:
            self._lost += 1
            return self._lost == 1

    def back(self) -> bool:
        """Note that it does; return whether it was the last."""
        with self._room:
            self._lost -= 1
            return self._lost == 0

    def _open(self) -> None:
        self._is_closed = False
        self._room.notify_all()
