"""At-most-once, as HotQueue has always been: what BLPOP hands out is gone if its consumer dies."""

from collections.abc import Sequence

from hotqueue import keys, scripts
from hotqueue.connection import Connection
from hotqueue.delivery import Delivery, Progress
from hotqueue.errors import NotSent, Refused
from hotqueue.watch import Watch


class AtMostOnce:
    """The lane of one or more queues on one server: one connection, and one BLPOP over all of their keys."""

    parks_first = True
    watch: Watch | None = None

    def __init__(self, queues: Sequence[str], connection: Connection, progress: Progress) -> None:
        """Nothing is sent yet."""
        self.queues = queues
        self.address = connection.address
        self.client_id = 0
        self._connection = connection
        self._progress = progress
        self._names = {keys.key_for_name(name).encode(): name for name in queues}
        self._unbegun: list[Delivery] = []
        self._unwanted: list[Delivery] = []  # to be pushed back, oldest first
        self._unburied: list[tuple[str, bytes]] = []

    def open(self) -> None:
        """Connect, say by which number a wait can be ended, and do what could not be done before.

        Raises NotSent, and what could not be pushed back is kept; or OutcomeUnknown, and one message may be
        lost, because if it was pushed again it could be there twice.
        """
        client_id = self._connection.client_id()
        if client_id != self.client_id:
            self.client_id = client_id
            for queue in self.queues:
                self._progress.registered(queue, 0, client_id)
        while self._unwanted:
            delivery = self._unwanted.pop()
            try:
                self._push_back(delivery)
            except NotSent:
                self._unwanted.append(delivery)
                raise
        while self._unburied:
            scripts.bury_popped(self._connection, *self._unburied[0])
            del self._unburied[0]

    def rest(self) -> Delivery | None:
        """Nothing: what is popped is run before anything else is."""
        return None

    def take(self, queue: str) -> Delivery | None:
        """Pop the head, without waiting."""
        self.open()
        raw = self._connection.call("LPOP", keys.key_for_name(queue))
        return None if raw is None else self._received(queue, raw)

    def park(self, order: Sequence[str], seconds: float) -> Connection:
        """Start one BLPOP; the server looks at the keys in the order given."""
        self.open()
        names = [keys.key_for_name(queue) for queue in order if queue in self.queues]
        self._connection.send("BLPOP", *names, seconds)
        return self._connection

    def collect(self) -> Delivery | None:
        """Read the reply of the BLPOP. If it is lost, so may be one message: that is at-most-once."""
        reply = self._connection.read()
        return None if reply is None else self._received(self._names[reply[0]], reply[1])

    def abandon(self) -> None:
        """Close the connection; a message popped for it is lost."""
        self._connection.close()

    def begin(self, delivery: Delivery) -> bool:
        """From here on it is not given back."""
        may_run = self._progress.started(delivery)
        if may_run:
            self._unbegun.remove(delivery)
        return may_run

    def ack(self, delivery: Delivery) -> None:
        """Redis knows nothing of it any more; only tell whoever watches."""
        self._progress.finished(delivery.queue, 0)

    def bury(self, delivery: Delivery, frame: bytes) -> None:
        """Put it in the dead list, now or when Redis is back."""
        self._unburied.append((delivery.queue, frame))
        self._progress.finished(delivery.queue, 0)
        self.open()

    def retry(self, delivery: Delivery, frame: bytes, delay_s: float) -> None:
        """Never: at-most-once means that it does not run twice. Handlers of such a queue have no retries."""
        raise NotImplementedError

    def flush(self) -> None:
        """Nothing is ever owed."""

    def close(self) -> None:
        """Give back what was not begun, and leave."""
        try:
            self.give_back()
        finally:
            self._connection.close()

    def give_back(self) -> None:
        """Push back to the head what was popped and not begun, the last one first; bury what is unburied.

        Raises what `open` raises; what is kept then goes back before anything else is popped.
        """
        if self._connection.reply_due:
            self.abandon()
        self._unwanted, self._unbegun = self._unwanted + self._unbegun, []
        if self._unwanted or self._unburied:
            self.open()

    def _push_back(self, delivery: Delivery) -> None:
        try:
            self._connection.call("LPUSH", keys.key_for_name(delivery.queue), delivery.raw)
        except Refused as refused:
            if refused.code != "OOM":
                raise
            scripts.give_back(self._connection, delivery.queue, delivery.raw)

    def _received(self, queue: str, raw: bytes) -> Delivery:
        delivery = Delivery(queue, raw, self)
        self._unbegun.append(delivery)
        return delivery
