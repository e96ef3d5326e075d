"""What `@queue.worker` returns, and the registry of them."""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

from hotqueue.caretaker import Caretaker
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.consumer import consume_here
from hotqueue.durations import Seconds, idle_of, seconds_of
from hotqueue.errors import ConfigurationError
from hotqueue.execution import is_in_event_loop
from hotqueue.pace import MOST
from hotqueue.retries import Backoff, Kinds, Retries, retries_from
from hotqueue.version import check_version

if TYPE_CHECKING:
    from hotqueue.queue import HotQueue

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

Mode = Literal["at-least-once", "at-most-once"]
MODES: tuple[Mode, ...] = ("at-least-once", "at-most-once")
_PACKAGE = str(Path(__file__).parent / "_")[:-1]
_registry: dict[tuple[str, str, str], "Handler[..., Any]"] = {}
_importing: list[str] = []
_INSTEAD = {  # what users of other libraries try → what it is here
    "delay": "handler.send(message) runs it in a worker, handler.send(message, delay=60) later",
    "apply_async": "handler.send(message, delay=60, headers={…}) does that, for one message",
    "enqueue": "handler.send(message) sends one, handler.queue.enqueue(*messages) many",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the decorator was given; `timeout` (seconds) and `block` concern only `Handler.run`."""

    delivery: Mode = "at-least-once"
    timeout: Seconds | None = None
    block: bool = True
    retries: int | None = None
    backoff: Backoff | None = None
    retry_on: Kinds | None = None
    max_age: Seconds | None = None
    time_limit: Seconds | None = None
    soft_time_limit: Seconds | None = None
    prefetch: int | None = None
    policy: Retries = field(init=False)
    max_age_s: float | None = field(init=False)
    time_limit_s: float | None = field(init=False)
    soft_time_limit_s: float | None = field(init=False)

    def __post_init__(self) -> None:
        """Raise ConfigurationError for what cannot work."""
        if self.delivery not in MODES:
            msg = f"delivery={self.delivery!r}: use {' or '.join(map(repr, MODES))}"
            raise ConfigurationError(msg)
        if self.prefetch is not None and (type(self.prefetch) is not int or not 1 <= self.prefetch <= MOST):
            msg = f"prefetch must be a whole number from 1 to {MOST}, got {self.prefetch!r}"
            raise ConfigurationError(msg)
        at_most_once = self.delivery == "at-most-once"
        policy = retries_from(self.retries, self.backoff, self.retry_on, at_most_once=at_most_once)
        object.__setattr__(self, "policy", policy)
        idle_of(self.timeout)
        for name in ("max_age", "time_limit", "soft_time_limit"):
            given = getattr(self, name)
            object.__setattr__(self, f"{name}_s", None if given is None else seconds_of(name, given))


class Handler(Generic[P, R]):
    """A function registered for a queue.

    Called with its message it is the plain function. Called with exactly its last required positional
    argument missing, as HotQueue 0.2 was, it runs the consuming loop in this process; `run` is the plain
    spelling.
    """

    def __init__(self, queue: "HotQueue", function: Callable[P, R], options: Options) -> None:
        """Use `@queue.worker` instead. Raises ConfigurationError for a function that takes no message."""
        self.queue = queue
        self.send = queue.send  # one message for this handler
        self.asend = queue.asend
        self.function = function
        self.options = options
        self.bound: tuple[Any, ...] = ()  # the object that a method belongs to
        self._before_message = _arguments_before_message(function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)
        self.__module__ = getattr(function, "__module__", None) or "?"
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or run the loop if only the message is missing."""
        if not kwargs and len(self.bound) + len(args) == self._before_message:
            self.run(*args)
            return None  # type: ignore[return-value]
        return self.function(*self.bound, *args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> "Handler[P, R]": ...
    @overload
    def __get__(self: "Handler[Concatenate[S, Q], R]", instance: S, owner: type) -> "Handler[Q, R]": ...
    def __get__(self, instance: Any, owner: type) -> "Handler[Any, Any]":
        """Bind a decorated method to its object."""
        if instance is None:
            return self
        bound = copy.copy(self)
        bound.bound = (instance,)
        return bound

    def __repr__(self) -> str:
        """Show the name and the queue."""
        return f"<Handler {self.__module__}.{self.__qualname__} for queue {self.queue.name!r}>"

    if not TYPE_CHECKING:  # for a type checker any name would then be one of ours

        def __getattr__(self, name: str) -> NoReturn:
            """Say what to use instead of a name that other libraries have."""
            instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
            msg = f"{type(self).__name__!r} object has no attribute {name!r}{instead}"
            raise AttributeError(msg, name=name, obj=self)

    def run(self, *args: Any, timeout: Seconds | None = None, block: bool | None = None) -> None:
        """Consume in this process and thread; `args` come before the message.

        Ends after `timeout` idle seconds (None or 0: never), or with `block=False` as soon as the queue is
        empty; by default as the decorator said. In the main thread INT and TERM let the running message
        finish and end the loop; a second INT interrupts it, and the message goes back. A message whose
        handler raises runs again later, and the loop goes on; when Redis is lost it waits for it. One that
        kills the process comes back, uncounted: only `hotqueue-worker` sees that, and buries it. Raises
        NotSent if Redis cannot be reached at the start, ConfigurationError while the worker imports modules,
        for wrong `args`, a Redis that is too old, or an async function inside of a running event loop.
        """
        refuse_while_importing(f"{self.__qualname__}.run()")
        self._refuse_in_event_loop()
        self.check_callable_with_message(*args)
        own = self.options
        timeout = own.timeout if timeout is None else timeout
        idle_s = idle_of(timeout) if (own.block if block is None else block) else 0.0
        with contextlib.closing(Connection(self.queue.address, CONSUMER_TIMEOUT_S)) as connection:
            connection.open()
            if own.delivery == "at-least-once":
                check_version(connection)
        caretaker = Caretaker(self.queue.name, self.queue.address)
        with caretaker.caring():
            consume_here(
                self.queue.lane(own.delivery, caretaker), self.queue.assignment(self, args), idle_s, caretaker
            )

    def _refuse_in_event_loop(self) -> None:
        """An event loop that runs cannot run another one: each message would fail."""
        if is_in_event_loop() and inspect.iscoroutinefunction(self.function):
            msg = (
                f"handler {self.__qualname__} ({self.where}) is async and cannot consume inside of a running"
                f" event loop: await asyncio.to_thread({self.__name__}.run)"
            )
            raise ConfigurationError(msg)

    @property
    def where(self) -> str:
        """File and line of the function."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else "?"

    def check_callable_with_message(self, *args: Any) -> None:
        """Raise ConfigurationError unless the function can be called with `args` and a message."""
        try:
            inspect.signature(self.function).bind(*self.bound, *args, None)
        except ValueError:  # a builtin that does not tell
            return
        except TypeError as error:
            what = f"{len(args)} arguments and a message" if args else "a message alone"
            msg = f"handler {self.__qualname__} ({self.where}) cannot be called with {what}: {error}"
            if not args:
                msg += f"; {self._how_to_be_called}"
            raise ConfigurationError(msg) from error

    @property
    def _how_to_be_called(self) -> str:
        if "." in self.__qualname__.rpartition("<locals>.")[2]:
            return "a method is named as MODULE:object.method"
        return "a message is one value: send a dict or a tuple, and take it apart in the handler"


def register(handler: Handler[..., Any]) -> None:
    """Remember a handler; one of the same module, name and queue is replaced, as when a module is read again.

    What a loop or a function decorates again and again has one name, and yet is one handler for each queue.
    """
    _registry[handler.__module__, handler.__qualname__, handler.queue.name] = handler


def registered() -> list[Handler[..., Any]]:
    """Return all handlers, in the order in which their names were first decorated."""
    return list(_registry.values())


@contextlib.contextmanager
def importing(what: str) -> Iterator[None]:
    """Refuse loops for the time of the block: one started by an import would hang the worker."""
    _importing.append(what)
    try:
        yield
    finally:
        _importing.pop()


def refuse_while_importing(call: str) -> None:
    """Raise ConfigurationError, with file and line of the caller, inside of `importing`."""
    if not _importing:
        return
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}: " if frame else ""
    msg = (
        f"{where}{call} would hold up the import of {_importing[-1]}:"
        ' put it under `if __name__ == "__main__":`'
    )
    raise ConfigurationError(msg)


def _arguments_before_message(function: Callable[..., Any]) -> int | None:
    """Return how many positional arguments leave just the message out; None where every call is a call."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        msg = f"{name} has a yield, so to call it only makes a generator and runs nothing of it"
        raise ConfigurationError(msg)
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    variable = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not positional and not variable:
        msg = f"{name} takes no message: give it one positional argument"
        raise ConfigurationError(msg)
    if variable or any(p.default is not p.empty for p in positional):
        return None
    return len(positional) - 1
