"""What `@queue.worker` returns, and the registry of them."""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from hotqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from hotqueue.queue import HotQueue

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

Mode = Literal["at-least-once", "at-most-once"]
MODES: tuple[Mode, ...] = ("at-least-once", "at-most-once")
_PACKAGE = str(Path(__file__).parent)
_registry: dict[tuple[str, str], "Handler[..., Any]"] = {}
_importing: list[str] = []


@dataclass(frozen=True, slots=True)
class Options:
    """What the decorator was given. `timeout` (seconds) and `block` concern only the loop in the caller's process."""

    delivery: Mode = "at-least-once"
    timeout: float | None = None
    block: bool = True


class Handler(Generic[P, R]):
    """A function registered for a queue.

    Called with its message it is the plain function. Called with exactly its last required positional argument
    missing, as HotQueue 0.2 was, it runs the consuming loop in this process; `run` is the plain spelling of that.
    """

    def __init__(
        self,
        queue: "HotQueue",
        function: Callable[P, R],
        options: Options,
        loop: Callable[["Handler[..., Any]", tuple[Any, ...], float | None, bool], None],
        bound: tuple[Any, ...] = (),
    ) -> None:
        """Use `@queue.worker` instead. Raises ConfigurationError for a function that takes no message."""
        self.queue = queue
        self.function = function
        self.options = options
        self.bound = bound
        self._loop = loop
        self._missing = _arguments_before_message(function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)
        self.__module__ = getattr(function, "__module__", "?")
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or run the loop if only the message is missing."""
        if not kwargs and self._missing is not None and len(self.bound) + len(args) == self._missing:
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
        return Handler(self.queue, self.function, self.options, self._loop, (*self.bound, instance))

    def __repr__(self) -> str:
        """Show the name and the queue."""
        return f"<Handler {self.__module__}.{self.__qualname__} for queue {self.queue.name!r}>"

    def run(self, *args: Any, timeout: float | None = None, block: bool | None = None) -> None:
        """Consume in this process and thread; `args` come before the message.

        Ends after `timeout` idle seconds (None or 0: never), or with `block=False` as soon as the queue is empty; by
        default as the decorator said. In the main thread INT and TERM let the running message finish and end
        the loop. Raises NotSent, OutcomeUnknown, or ConfigurationError while the worker imports modules.
        """
        refuse_while_importing(f"{self.__qualname__}.run()")
        own = self.options
        self._loop(
            self,
            args,
            own.timeout if timeout is None else timeout,
            own.block if block is None else block,
        )

    def send(self, message: object, *, headers: Mapping[str, object] | None = None) -> str:
        """Enqueue one message for this handler and return its id, as `HotQueue.send` does."""
        return self.queue.send(message, headers=headers)

    @property
    def where(self) -> str:
        """File and line of the function."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else "?"

    @property
    def is_async(self) -> bool:
        """Whether the function is `async def`."""
        return inspect.iscoroutinefunction(self.function)

    def check_callable_with_message(self) -> None:
        """Raise ConfigurationError unless the worker can call this with nothing but a message."""
        try:
            inspect.signature(self.function).bind(*self.bound, None)
        except TypeError as error:
            msg = (
                f"handler {self.__qualname__} ({self.where}) cannot be called with a message alone: {error};"
                " name a bound method as MODULE:object.method"
            )
            raise ConfigurationError(msg) from error


def register(handler: Handler[..., Any]) -> None:
    """Remember a handler; one of the same module and name is replaced, as when a module is read again."""
    _registry[handler.__module__, handler.__qualname__] = handler


def registered() -> list[Handler[..., Any]]:
    """Return all handlers, in the order in which they were decorated."""
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
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    msg = (
        f"{frame.f_code.co_filename}:{frame.f_lineno}: {call} would run for ever while {_importing[-1]} is imported;"
        ' put it under `if __name__ == "__main__":`'
    )
    raise ConfigurationError(msg)


def _arguments_before_message(function: Callable[..., Any]) -> int | None:
    """Return how many positional arguments leave just the message out; None where every call is a call."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    variable = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not positional and not variable:
        msg = f"{getattr(function, '__qualname__', function)} takes no message: give it one positional argument"
        raise ConfigurationError(msg)
    if variable or any(p.default is not p.empty for p in positional):
        return None
    return len(positional) - 1
