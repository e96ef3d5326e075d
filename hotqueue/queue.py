"""HotQueue: a Redis list as a FIFO queue of messages."""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from hotqueue import hooks, keys, offload, stats
from hotqueue.address import Address
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.at_most_once import AtMostOnce
from hotqueue.batch import BYTES, COUNT, SECONDS, Batch
from hotqueue.caretaker import Caretaker
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.dead import DeadLetters
from hotqueue.delivery import Lane, Progress
from hotqueue.durations import Seconds, idle_of, seconds_of
from hotqueue.ending import Assignment
from hotqueue.envelope import MAX_SIZE, Envelope
from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.handler import Handler, Mode, Options, refuse_while_importing, register
from hotqueue.outbox import UNIQUE_FOR_S, Outbox, Terms
from hotqueue.own_loop import OwnDelivery, OwnLoop
from hotqueue.pace import BUDGET_S
from hotqueue.pool import Pool
from hotqueue.reader import Reader
from hotqueue.retries import Backoff, Kinds
from hotqueue.serializers import codec_for
from hotqueue.signing import signer_from
from hotqueue.stats import Stats
from hotqueue.watch import Watch

if TYPE_CHECKING:
    import redis

P = ParamSpec("P")
R = TypeVar("R")


class HotQueue:
    """A FIFO queue of messages in a Redis list. One object may be used by many threads, and after a fork.

    >>> from hotqueue import HotQueue
    >>> queue = HotQueue("myqueue", host="localhost", port=6379, db=0)

    `serializer` has functions `dumps` and `loads`; the pickle module by default, None for plain text, or one
    of the names "json", "text", "pickle", "msgpack". The address is `url`, a `client` of redis-py (its
    settings, not its connections), or redis-py's keyword arguments; by default HOTQUEUE_URL, REDIS_URL, then
    localhost. `envelope` True writes frames, False bare bodies; by default HOTQUEUE_ENVELOPE decides, then
    the serializer. `secret` signs messages and `strict` refuses unsigned ones (HOTQUEUE_SECRET,
    HOTQUEUE_STRICT). `max_size` limits a message, in bytes, `max_length` how many may wait or be delayed.
    Redis may take 2 seconds to connect and 2 to reply, or as many as `socket_connect_timeout` and
    `socket_timeout` say. Nothing connects before use. Raises ConfigurationError.
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
        max_length: int | None = None,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        strict: bool | None = None,
        **redis_kwargs: Any,
    ) -> None:
        """Check all that can be checked without Redis."""
        self.name = keys.check_name(name)
        self.key = keys.key_for_name(name)
        address = Address.of(url, client, redis_kwargs)
        self._seal = partial(
            Envelope, name, framed=envelope, signer=signer_from(secret, strict), max_size=max_size
        )
        self._serializer = serializer
        self._outbox = Outbox(name, address, self._seal(codec_for(serializer)), max_length)

    @property
    def serializer(self) -> object:
        """What messages are serialized with; may be assigned at any time."""
        return self._serializer

    @serializer.setter
    def serializer(self, serializer: object) -> None:
        self._outbox.envelope = self._seal(codec_for(serializer))
        self._serializer = serializer

    @property
    def address(self) -> Address:
        """Where Redis is."""
        return self._outbox.address

    @property
    def _pool(self) -> Pool:
        return self._outbox.pool

    @property
    def _envelope(self) -> Envelope:
        return self._outbox.envelope

    def __len__(self) -> int:
        """Return how many messages are waiting: an empty queue is falsy. Raises NotSent, OutcomeUnknown."""
        return int(self._pool.call("LLEN", self.key))

    def __repr__(self) -> str:
        """Show name and address, never a password."""
        return f"<HotQueue {self.name!r} at {self.address}>"

    def clear(self) -> None:
        """Delete all waiting messages. Raises NotSent, OutcomeUnknown (they may be gone)."""
        self._pool.call("DEL", self.key)

    @cached_property
    def dead(self) -> DeadLetters:
        """The dead list: what ended badly, to look at, to retry and to drop."""
        outbox = self._outbox  # not the queue: it would never be given up without a garbage collection
        return DeadLetters(self.name, lambda: outbox.pool, lambda: outbox.envelope)

    def stats(self) -> Stats:
        """Count what is waiting, in flight, delayed and dead. Raises NotSent, OutcomeUnknown."""
        with self._pool.lent() as connection:
            return stats.look(connection, self.name)

    def pause(self, seconds: Seconds | None = None) -> None:
        """Have nothing more taken by handlers and `deliveries`, for `seconds` or until `resume`.

        Takes effect within about a second. What runs is finished; `dequeue` and `consume` know no pause.
        Raises NotSent, OutcomeUnknown, ConfigurationError.
        """
        expiry = () if seconds is None else ("PX", max(1, int(seconds_of("seconds", seconds) * 1000)))
        self._pool.call("SET", keys.paused(self.name), "1", *expiry)

    def resume(self) -> None:
        """End a pause. Raises NotSent, OutcomeUnknown."""
        self._pool.call("DEL", keys.paused(self.name))

    def enqueue(self, *messages: object) -> None:
        """Put messages at the tail of the queue, all of them in one command.

        Raises NotSent (nothing was enqueued), OutcomeUnknown (all may have been), BadMessage, TooLarge or
        Full (nothing was).
        """
        if messages:
            self._outbox.enqueue(messages)

    put = enqueue

    def send(
        self,
        message: object,
        *,
        headers: Mapping[str, object] | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        unique_for: Seconds = UNIQUE_FOR_S,
        expires: Seconds | None = None,
        front: bool = False,
        durable: bool = False,
    ) -> str:
        """Put one message, with optional JSON `headers`, into the queue and return its id.

        Times are in seconds or a timedelta. `delay` or `at`, which needs a time zone, says when it is due;
        `front` puts it at the head. Older than `expires` it is not run any more. If within `unique_for`
        (1 hour) another was accepted under the key `unique`, nothing is sent and the id of that one is
        returned: so a send that raised OutcomeUnknown can safely be repeated. `durable` waits until it is on
        disk, or on a replica where Redis is older than 7.2; OutcomeUnknown if that is not confirmed in 5
        seconds. It is always written as a frame, so ConfigurationError is raised with `envelope=False`: a
        bare body has no id. Raises what `enqueue` raises, too.
        """
        terms = Terms(delay, at, unique, unique_for, expires, front, durable)
        return self._outbox.send(message, headers, terms)

    async def asend(
        self,
        message: object,
        *,
        headers: Mapping[str, object] | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        unique_for: Seconds = UNIQUE_FOR_S,
        expires: Seconds | None = None,
        front: bool = False,
        durable: bool = False,
    ) -> str:
        """Do what `send` does, for code in an asyncio event loop, which it never holds up.

        `headers`, `delay`, `at`, `unique`, `unique_for`, `expires`, `front` and `durable` mean what they mean
        there, and the same is returned and raised. It runs in one of 8 threads of the process, which also
        serializes the message: do not change it meanwhile. So a process has at most 8 connections for the
        asends of one queue. If it is cancelled the message may or may not be sent: as after OutcomeUnknown,
        only a `unique` key makes it safe to repeat.
        """
        terms = Terms(delay, at, unique, unique_for, expires, front, durable)
        return await offload.run(partial(self._outbox.send, message, headers, terms))

    def batch(self, *, count: int = COUNT, bytes: int = BYTES, seconds: Seconds = SECONDS) -> Batch:  # noqa: A002 - the natural word
        """Return a buffer for many messages, to be used in a `with`.

        It sends what it holds in one command: as soon as that is `count` messages or `bytes` bytes, or the
        first has waited for `seconds`, and when the block ends, also by an exception. No thread looks at the
        time; the next send does. Raises ConfigurationError.
        """
        return Batch(self._outbox, count, bytes, seconds)

    def dequeue(self, block: bool = False, timeout: Seconds | None = None) -> Any:
        """Return the message at the head of the queue, or None.

        With `block` wait for one, at most `timeout` seconds (None or 0: for ever). The message is yours
        alone, and gone if you die. A None may also be a message that was enqueued; `consume` tells them
        apart. Raises NotSent, OutcomeUnknown (a message may have been lost), or BadMessage for what cannot be
        decoded, which is then in the dead list.
        """
        if block:
            refuse_while_importing("dequeue(block=True)")
        with self._reader(block, timeout) as reader:
            delivery = reader.receive()
            if delivery is None:
                return None
            message = reader.decode(delivery)
            reader.begin(delivery)
            return message

    get = dequeue

    def consume(self, block: bool = True, timeout: Seconds | None = None) -> Iterator[Any]:
        """Yield messages as they come.

        Ends after `timeout` idle seconds (None or 0: never), or with `block=False` as soon as the queue is
        empty. Ctrl-C while it waits ends it quietly, and loses nothing. What cannot be decoded goes to the
        dead list and the loop goes on. Raises NotSent, or OutcomeUnknown (one message may have been lost).
        """
        if block:
            refuse_while_importing("consume()")
        with self._reader(block, timeout) as reader:
            while True:
                try:
                    delivery = reader.receive()
                    if delivery is None:
                        return
                    message = reader.decode(delivery)
                except KeyboardInterrupt:
                    return
                except BadMessage:
                    continue
                try:
                    yield message
                finally:
                    reader.begin(delivery)

    def deliveries(self, timeout: Seconds | None = None) -> Iterator[OwnDelivery]:
        """Yield deliveries, at least once, for a loop of your own: settle each by `ack`, `retry` or `reject`.

        Ends after `timeout` idle seconds (None or 0: never), or on Ctrl-C while it waits. What was not
        settled when the loop is left goes back to the head. Raises NotSent, OutcomeUnknown, or
        ConfigurationError if the one before was not settled, or Redis is too old.
        """
        refuse_while_importing("deliveries()")
        caretaker = Caretaker(self.name, self.address)
        lane = self.lane("at-least-once", caretaker)
        return OwnLoop(self.name, self.address, lane, caretaker, lambda: self._envelope).run(idle_of(timeout))

    @overload
    def worker(self, function: Callable[P, R], /) -> Handler[P, R]: ...
    @overload
    def worker(
        self,
        /,
        *,
        delivery: Mode = ...,
        retries: int = ...,
        backoff: Backoff = ...,
        retry_on: Kinds = ...,
        max_age: Seconds = ...,
        time_limit: Seconds = ...,
        soft_time_limit: Seconds = ...,
        prefetch: int = ...,
        timeout: Seconds | None = ...,
        block: bool = ...,
    ) -> Callable[[Callable[P, R]], Handler[P, R]]: ...
    def worker(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function the handler of this queue, for `hotqueue-worker` and for a loop of your own.

        `delivery` is "at-least-once" (the default: a message is done when its handler is) or "at-most-once".
        A failed message runs again up to `retries` times (10), `backoff` seconds later: a number, a list, or
        a function of the number of failures; by default up to 15 s, doubled each time up to 1 h, half of it
        random. After that, or after an error that is not of the kinds in `retry_on`, it goes to the dead
        list, and unrun if it is older than `max_age` seconds. A handler may raise `Retry` or `Reject`.
        At-most-once knows no retries. In `hotqueue-worker` a handler that runs longer than `soft_time_limit`
        seconds gets `SoftTimeLimit` raised in it; after `time_limit` its process is killed, and it counts as
        failed; 0 is no limit. There `prefetch` is how many messages a child claims at once, 1 to 256; by
        default as many as run in a few milliseconds. `timeout` (seconds) and `block` concern only the loop in
        your own process, see `Handler.run`.
        That a queue has two handlers is an error only when a worker starts. Raises ConfigurationError.
        """
        if function is not None and not callable(function):
            msg = f"@queue.worker takes keyword arguments only, got {function!r}"
            raise ConfigurationError(msg)
        try:
            chosen = Options(**options)
        except TypeError as error:
            msg = f"@queue.worker {str(error).partition(' ')[2]}"
            raise ConfigurationError(msg) from error

        def decorate(function: Callable[..., Any]) -> Handler[..., Any]:
            handler = Handler(self, function, chosen)
            register(handler)
            return handler

        return decorate if function is None else decorate(function)

    def lane(
        self,
        delivery: Mode,
        progress: Progress,
        prefetch: int | None = 1,
        budget_s: float = BUDGET_S,
        watch: Watch | None = None,
    ) -> Lane:
        """Return a lane for a consumer of this queue alone; it has a connection of its own without a `watch`.

        At-least-once it claims `prefetch` messages at once, or with None what takes about `budget_s` to run.
        """
        connection = Connection(self.address, CONSUMER_TIMEOUT_S)
        if delivery == "at-least-once":
            return AtLeastOnce(self.name, watch or connection, progress, prefetch, budget_s)
        return AtMostOnce((self.name,), connection, progress)

    def assignment(self, handler: Handler[..., Any], args: tuple[Any, ...] = ()) -> Assignment:
        """Return how to run messages of this queue with `handler`; `args` come before the message."""
        return Assignment(
            self.name,
            handler.__name__,
            hooks.surrounded(handler.function, (*handler.bound, *args)),
            lambda: self._envelope,
            handler.options.policy,
            handler.options.max_age_s,
        )

    def _reader(self, block: bool, timeout: Seconds | None) -> Reader:
        return Reader(self.name, self._pool, lambda: self._envelope, block=block, timeout=timeout)
