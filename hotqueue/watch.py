"""Hearing of messages in many queues without taking them, on one connection for all of a server.

A wait that takes what comes needs a connection for each queue. For more than a few the server is asked to
tell: of a key that was asked about with CLIENT TRACKING, it says once that it has changed, whoever did that.
So a queue that was empty is empty until that is heard. Nothing is taken on the way, and nothing can be lost.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence

from hotqueue import keys
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import NotSent, OutcomeUnknown, Refused
from hotqueue.resp import ErrorReply, packed, parsed

FORGET_S = 60.0  # what a server does not tell, as when a slot of a cluster moves, is found by then
CONNECTIONS = 2  # of a watch
NO_WATCH = "NOWATCH"
_CANNOT = {"ERR", "NOPERM", "NOPROTO"}


class Watch:
    """What is known of queues on one server; for one thread."""

    def __init__(self, address: Address) -> None:
        """Nothing is sent yet."""
        self.address = address
        # Of all lanes that are watched: they take by script, and never wait.
        self.commands = Connection(address, CONSUMER_TIMEOUT_S)
        self._connection = Connection(address, CONSUMER_TIMEOUT_S)
        self._empty: set[bytes] = set()  # keys; that one has something would have been heard
        self._since_s = 0.0
        self._made_for = 0  # connection of the commands
        self._text = bytearray()  # that has come and was not read

    def fileno(self) -> int:
        """Return the descriptor to poll once `not_empty` has returned nothing."""
        return self._connection.fileno()

    def knows_empty(self, queue: str) -> bool:
        """Tell whether it is known that nothing is in it: a round trip less."""
        try:
            with self._whole():
                self._hear()
        except (NotSent, OutcomeUnknown):
            return False  # whoever waits next says so
        return _key(queue) in self._empty

    def not_empty(self, queues: Sequence[str]) -> list[str]:
        """Return those of these queues that are not known to be empty, in this order.

        It asks for the length of each that may have changed, all in one round trip. Whoever has found nothing
        in what is returned asks again. Raises NotSent, Refused or OutcomeUnknown.
        """
        with self._whole():
            if not self._connection.is_open or self._made_for != self.commands.times_connected:
                self._open()  # the name may lead to another server by now
            self._hear()
            asked = [key for key in map(_key, queues) if key not in self._empty]
            self._connection.write(b"".join(packed(("LLEN", key)) for key in asked))
            for key in asked:  # one by one: that it has changed may be said right behind its length
                if self._reply() == 0:
                    self._empty.add(key)
            self._hear()
        return [queue for queue in queues if _key(queue) not in self._empty]

    def close(self) -> None:
        """Close both connections."""
        self.commands.close()
        self._forget()

    def _open(self) -> None:
        self._forget()
        self._connection.open()
        self._since_s, self._made_for = time.monotonic(), self.commands.times_connected
        try:
            for command in (("HELLO", "3"), ("CLIENT", "TRACKING", "ON")):
                self._connection.write(packed(command))
                self._reply()
        except Refused as refused:
            if refused.code not in _CANNOT:
                raise
            msg = f"it cannot say when one of many queues has a message: {refused}"
            raise Refused(msg, NO_WATCH) from refused

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Forget all if the block fails: what is asked and not read would be taken for the next answer."""
        try:
            yield
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._connection.close()
        self._empty.clear()
        self._text.clear()

    def _hear(self) -> None:
        """Read what has come, without waiting. No answer is due."""
        while self._connection.is_open and not self._connection.is_well:
            self._text += self._connection.receive()
        if next(self._replies(), None) is not None:
            msg = f"Redis at {self.address} says what nobody has asked for"
            raise OutcomeUnknown(msg)
        if time.monotonic() - self._since_s > FORGET_S:
            self._empty.clear()
            self._since_s = time.monotonic()

    def _reply(self) -> object:
        """Wait for the next reply; what is said before it is heard."""
        while (reply := next(self._replies(), None)) is None:
            self._text += self._connection.receive()
        if isinstance(reply, ErrorReply):
            raise self._connection.refusal(reply)
        return reply

    def _replies(self) -> Iterator[object]:
        """Take out of the text what is complete: hear what is said, and yield what was asked."""
        while self._text:
            try:
                found, end = parsed(self._text)
            except ValueError:  # the rest has not come yet
                return
            del self._text[:end]
            if not isinstance(found, tuple):
                yield found
            elif found[1] is None:  # everything was deleted
                self._empty.clear()
            else:
                self._empty.difference_update(found[1])


def watches(addresses: Iterable[Address], most: int) -> list[Watch | None]:
    """Return who watches each of the queues at these `addresses`, so that `most` connections are enough.

    That is nobody, if they can have one each; or else for the first ones, as far as that leaves some for a
    watch of each server.
    """
    addresses = list(addresses)
    if len(addresses) <= most:
        return [None] * len(addresses)
    made: list[Watch] = []
    for address in addresses:
        if all(watch.address != address for watch in made):
            made.append(Watch(address))
    own = max(0, most - CONNECTIONS * len(made))
    by_server = [next(watch for watch in made if watch.address == address) for address in addresses]
    return [None] * own + list(by_server[own:])


def _key(queue: str) -> bytes:
    return keys.key_for_name(queue).encode()
