"""What an application wants done around its processes and its handlers, such as pools and tracing.

Each is a decorator for a plain function of the application's, at module level; several of a kind run in the
order in which they were registered.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, TypeVar, cast

from hotqueue import events
from hotqueue.delivery import Delivery, current
from hotqueue.errors import ConfigurationError

Hook = TypeVar("Hook", bound=Callable[[], object])
Surrounding = TypeVar("Surrounding", bound=Callable[[Delivery], AbstractContextManager[object]])

START, CHILD_START, CHILD_STOP, STOP = "on_start", "on_child_start", "on_child_stop", "on_stop"
_hooks: dict[str, list[Callable[[], object]]] = {START: [], CHILD_START: [], CHILD_STOP: [], STOP: []}
_surroundings: list[Callable[[Delivery], AbstractContextManager[object]]] = []


def on_start(hook: Hook) -> Hook:
    """Call it once, when the application is imported and before the first child is forked.

    What it loads the children share; a connection or a thread it must not open. An error refuses the start.
    """
    return _register(START, hook)


def on_child_start(hook: Hook) -> Hook:
    """Call it in each child before its first message: the place to open what must not be shared.

    An error ends the child, which is tried again later.
    """
    return _register(CHILD_START, hook)


def on_child_stop(hook: Hook) -> Hook:
    """Call it in each child after its last message, within the shutdown timeout; not in one that is killed.

    An error is logged.
    """
    return _register(CHILD_STOP, hook)


def on_stop(hook: Hook) -> Hook:
    """Call it once, where `on_start` was, after the last child. It has five seconds. An error is logged."""
    return _register(STOP, hook)


def around_message(surrounding: Surrounding) -> Surrounding:
    """Enter what it returns for the delivery, a context manager, around each call of a handler.

    An error of the handler passes through it. Also in `Handler.run`.
    """
    _surroundings.append(surrounding)
    return surrounding


def run(moment: str) -> None:
    """Call the hooks of a moment. Raises what they raise."""
    for hook in _hooks[moment]:
        hook()


def run_last(moment: str) -> None:
    """Call the hooks of a moment at which an error changes nothing any more; it is logged."""
    for hook in _hooks[moment]:
        try:
            hook()
        except BaseException as error:  # noqa: BLE001 - SystemExit of a hook, too, must not keep the others out
            events.emit(logging.ERROR, events.HOOK_FAILED, error=error, hook=name_of(hook))


def surrounded(function: Callable[..., Any], before: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Return what calls `function` with `before` and a message, with all that is to be around that.

    It is entered where an async handler runs, in the context of its task, so that a context variable that was
    set can be reset.
    """
    if not _surroundings:
        return partial(function, *before) if before else function

    def call(message: Any) -> Any:
        with _entered() as entered:
            result = function(*before, message)
            return _finish(entered.pop_all(), result) if inspect.isawaitable(result) else result

    async def call_async(message: Any) -> Any:
        with _entered():
            return await function(*before, message)

    return call_async if inspect.iscoroutinefunction(function) else call


def _entered() -> ExitStack:
    delivery = cast("Delivery", current())
    with ExitStack() as entered:
        for surrounding in _surroundings:
            entered.enter_context(surrounding(delivery))
        return entered.pop_all()


async def _finish(entered: ExitStack, result: Awaitable[Any]) -> Any:
    """What a plain function has only begun is in a context of its own."""
    with entered:
        return await result


def name_of(hook: Callable[..., object]) -> str:
    """Return module and name of a function of the application's."""
    return f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__qualname__', hook)}"


def _register(moment: str, hook: Hook) -> Hook:
    if inspect.iscoroutinefunction(hook):
        msg = f"{moment} takes a plain function, and {name_of(hook)} is async"
        raise ConfigurationError(msg)
    _hooks[moment].append(hook)
    return hook
