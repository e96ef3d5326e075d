"""HotQueue: a Redis list as a FIFO queue of messages."""

import contextlib
import logging
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from hotqueue import events, keys
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.at_most_once import AtMostOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Address, Connection, Pool
from hotqueue.consumer import consume_here
from hotqueue.delivery import Delivery, Lane, Progress, Unwatched
from hotqueue.envelope import MAX_SIZE, Envelope, id_of, noted, trail_of
from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.execution import Assignment, one_line
from hotqueue.handler import MODES, Handler, Mode, Options, refuse_while_importing, register
from hotqueue.serializers import codec_for
from hotqueue.signing import signer_from
from hotqueue.waiting import Waiter
from hotqueue.wakeup import Wakeup, listening

if TYPE_CHECKING:
    import redis

P = ParamSpec("P")
R = TypeVar("R")


class HotQueue:
    """A FIFO queue of messages in a Redis list.

    >>> from hotqueue import HotQueue
    >>> queue = HotQueue("myqueue", host="localhost", port=6379, db=0)

    `serializer` has functions `dumps` and `loads`; the pickle module by default, None for plain text, or one of the
    names "json", "text", "pickle", "msgpack". The address is `url`, a `client` of redis-py, or its keyword arguments;
    by default HOTQUEUE_URL, REDIS_URL, then localhost. `envelope` True writes frames, False bare bodies, by default
    as the serializer wants. `secret` signs messages and `strict` refuses unsigned ones (HOTQUEUE_SECRET,
    HOTQUEUE_STRICT). `max_size` limits a message, in bytes. Raises ConfigurationError. Nothing connects before use.
    """

    def __init__(
        self,
        name: str,
        serializer: object = pickle,
        *,
        url: str | None = None,
        client: "redis.Redis | None" = None,
        envelope: bool | None = None,
        max_size: int = MAX_SIZE,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        strict: bool | None = None,
        **redis_kwargs: Any,
    ) -> None:
        """Check all that can be checked without Redis."""
        self.name = keys.check_name(name)
        self.key = keys.key_for_name(name)
        self._address = Address.of(url, client, redis_kwargs)
        self._seal = {"framed": envelope, "signer": signer_from(secret, strict), "max_size": max_size}
        self.serializer = serializer

    @property
    def serializer(self) -> object:
        """What messages are serialized with; may be assigned at any time."""
        return self._serializer

    @serializer.setter
    def serializer(self, serializer: object) -> None:
        self._envelope = Envelope(self.name, codec_for(serializer), **self._seal)
        self._serializer = serializer

    @cached_property
    def address(self) -> Address:
        """Where Redis is."""
        return self._address or Address.default()

    @cached_property
    def _pool(self) -> Pool:
        return Pool(self.address)

    def __len__(self) -> int:
        """Return how many messages are waiting. Raises NotSent."""
        return int(self._pool.call("LLEN", self.key))

    def __repr__(self) -> str:
        """Show name and address, never a password."""
        return f"<HotQueue {self.name!r} at {self.address}>"

    def clear(self) -> None:
        """Delete all waiting messages."""
        self._pool.call("DEL", self.key)

    def enqueue(self, *messages: object) -> None:
        """Put messages at the tail of the queue, all of them in one command.

        Raises NotSent (nothing was enqueued), OutcomeUnknown (it may have been), BadMessage or TooLarge (nothing was).
        """
        if messages:
            seal = self._envelope.seal
            self._pool.call("RPUSH", self.key, *[seal(message) for message in messages])

    put = enqueue

    def send(self, message: object, *, headers: Mapping[str, object] | None = None) -> str:
        """Put one message, with optional JSON `headers`, at the tail of the queue and return its id.

        Raises what `enqueue` raises, and ConfigurationError with `envelope=False`: a bare body has no id.
        """
        message_id, raw = self._envelope.seal_with_id(message, headers)
        self._pool.call("RPUSH", self.key, raw)
        return message_id

    def dequeue(self, block: bool = False, timeout: float | None = None) -> Any:
        """Return the message at the head of the queue, or None.

        With `block` wait for one, at most `timeout` seconds (None or 0: for ever). The message is yours alone, and gone
        if you die. Raises NotSent, OutcomeUnknown (a message may have been lost), or BadMessage for what cannot be
        decoded, which is then in the dead list.
        """
        with self._lane() as (lane, waiter, wakeup):
            if block:
                refuse_while_importing("dequeue(block=True)")
                delivery = self._wait(lane, waiter, wakeup, timeout)
                if wakeup.is_set:
                    lane.give_back()
                    raise KeyboardInterrupt
            else:
                delivery = lane.take(self.name)
            return None if delivery is None else self._message(lane, delivery)

    get = dequeue

    def consume(self, block: bool = True, timeout: float | None = None) -> Iterator[Any]:
        """Yield messages as they come.

        Ends after `timeout` idle seconds (None or 0: never), or with `block=False` as soon as the queue is empty. Ctrl-C
        while it waits ends it quietly, and loses nothing. What cannot be decoded goes to the dead list and the
        loop goes on. Raises NotSent, or OutcomeUnknown (one message may have been lost).
        """
        if block:
            refuse_while_importing("consume()")
        with self._lane() as (lane, waiter, wakeup):
            while True:
                delivery = self._wait(lane, waiter, wakeup, timeout) if block else lane.take(self.name)
                if delivery is None or wakeup.is_set:
                    lane.give_back()
                    return
                try:
                    message = self._message(lane, delivery)
                except BadMessage as error:
                    events.emit(
                        logging.ERROR, events.MESSAGE_BURIED,
                        queue=self.name, id=id_of(delivery.raw), reason=f"unreadable: {one_line(error)}",
                    )  # fmt: skip
                    continue
                yield message

    @overload
    def worker(self, function: Callable[P, R], /) -> Handler[P, R]: ...
    @overload
    def worker(
        self, /, *, delivery: Mode = ..., timeout: float | None = ..., block: bool = ...
    ) -> Callable[[Callable[P, R]], Handler[P, R]]: ...
    def worker(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a function the handler of this queue, for `hotqueue-worker` and for a loop of your own.

        `delivery` is "at-least-once" (the default: a message is done when its handler is) or "at-most-once".
        `timeout` (seconds) and `block` concern only the loop in your own process, see `Handler.run`.
        Raises ConfigurationError.
        """
        if function is not None and not callable(function):
            msg = f"@queue.worker takes keyword arguments only, got {function!r}"
            raise ConfigurationError(msg)
        chosen = self._options(options)

        def decorate(function: Callable[..., Any]) -> Handler[..., Any]:
            handler = Handler(self, function, chosen, _run_here)
            register(handler)
            return handler

        return decorate if function is None else decorate(function)

    def lane(self, delivery: Mode, progress: Progress) -> Lane:
        """Return a lane of its own connection for a consumer of this queue alone."""
        connection = Connection(self.address, CONSUMER_TIMEOUT_S)
        if delivery == "at-least-once":
            return AtLeastOnce(self.name, connection, progress)
        return AtMostOnce((self.name,), connection, progress)

    def assignment(self, handler: Handler[..., Any], args: tuple[Any, ...] = ()) -> Assignment:
        """Return how to run messages of this queue with `handler`; `args` come before the message."""
        before = (*handler.bound, *args)
        return Assignment(
            self.name,
            handler.__name__,
            lambda message: handler.function(*before, message),
            lambda: self._envelope,
        )

    def _options(self, options: dict[str, Any]) -> Options:
        try:
            chosen = Options(**options)
        except TypeError as error:
            msg = f"@queue.worker: {str(error).partition(' ')[2]}"
            raise ConfigurationError(msg) from error
        if chosen.delivery not in MODES:
            msg = f"delivery={chosen.delivery!r}: use {' or '.join(map(repr, MODES))}"
            raise ConfigurationError(msg)
        return chosen

    @contextlib.contextmanager
    def _lane(self) -> Iterator[tuple[AtMostOnce, Waiter, Wakeup]]:
        connection = self._pool.take()
        wakeup = Wakeup()
        waiter = Waiter(wakeup)
        try:
            yield AtMostOnce((self.name,), connection, Unwatched()), waiter, wakeup
        finally:
            waiter.close()
            wakeup.close()
            self._pool.give(connection)

    def _wait(self, lane: AtMostOnce, waiter: Waiter, wakeup: Wakeup, timeout: float | None) -> Delivery | None:
        end = time.monotonic() + timeout if timeout else None
        with _interrupts(wakeup):
            while not wakeup.is_set:
                left = float("inf") if end is None else end - time.monotonic()
                if left <= 0:
                    return None
                if brought := waiter.wait((lane,), (self.name,), left):
                    return brought[0]
        return None

    def _message(self, lane: AtMostOnce, delivery: Delivery) -> Any:
        lane.begin(delivery)
        try:
            return self._envelope.decode(self._envelope.read(delivery.raw))
        except BadMessage as error:
            trail = trail_of(delivery.raw).with_reason(
                kind="unreadable", error=one_line(error), at=int(time.time() * 1000)
            )
            lane.bury(delivery, noted(delivery.raw, trail))
            raise


def _interrupts(wakeup: Wakeup) -> contextlib.AbstractContextManager[None]:
    """Record Ctrl-C while waiting, unless the application handles it itself.

    An exception out of a signal handler would throw away a message that Redis has already popped.
    """
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return listening(wakeup, (signal.SIGINT,))
    return contextlib.nullcontext()


def _run_here(handler: Handler[..., Any], args: tuple[Any, ...], timeout: float | None, block: bool) -> None:
    queue = handler.queue
    idle_s = (timeout or None) if block else 0.0
    consume_here(queue.lane(handler.options.delivery, Unwatched()), queue.assignment(handler, args), idle_s)
