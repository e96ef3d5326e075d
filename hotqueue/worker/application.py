"""The user's application: imported and started once, and what of it the worker shall run."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from hotqueue import hooks
from hotqueue.ending import one_line
from hotqueue.errors import ConfigurationError
from hotqueue.handler import Handler, importing, registered
from hotqueue.queue import HotQueue
from hotqueue.worker.settings import QueueChoice, Settings, here

AnyHandler = Handler[..., Any]

_MISSING = object()
_PACKAGE = str(Path(__file__).parents[1])


def load(targets: Iterable[str], choice: QueueChoice) -> list[AnyHandler]:
    """Import `MODULE[:ATTRIBUTE]` targets; return one handler for each queue to serve, ordered by `choice`.

    Raises ConfigurationError of one line for whatever is wrong.
    """
    folder = str(here())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        what = f"Django with {os.environ['DJANGO_SETTINGS_MODULE']}"
        _imported(what, lambda: importlib.import_module("django").setup())
    found: list[AnyHandler] = []
    for target in targets:
        name, colon, attribute = target.partition(":")
        _check_module_name(name)
        if colon and not attribute:
            msg = f"{target!r} ends in a colon: write {name}:HANDLER for one handler, {name} for all"
            raise ConfigurationError(msg)
        module = _imported(name, lambda name=name: importlib.import_module(name))  # type: ignore[misc]
        found.extend(_handlers_of(_attribute(module, attribute, target), target) if colon else registered())
    return _chosen(_one_per_queue(dict.fromkeys(found), targets), choice)


def start() -> None:
    """Call the application's hooks for that. Raises ConfigurationError of one line."""
    try:
        hooks.run(hooks.START)
    except BaseException as error:  # user code, as an import is
        msg = f"an on_start hook failed: {_with_place(error)}"
        raise ConfigurationError(msg) from error


def describe(handler: AnyHandler, settings: Settings) -> dict[str, object]:
    """Return what the supervisor must know of it. Raises ConfigurationError for limits that cannot be."""
    hard = _first(handler.options.time_limit_s, settings.time_limit)
    soft = _first(handler.options.soft_time_limit_s, settings.soft_time_limit)
    if hard and soft and soft >= hard:
        msg = f"{handler.where}: a soft time limit of {soft:g} s is not below the time limit of {hard:g} s"
        raise ConfigurationError(msg)
    return {
        "queue": handler.queue.name,
        "handler": handler.__name__,
        "where": handler.where,
        "delivery": handler.options.delivery,
        "address": handler.queue.address.portable(),
        "time_limit": hard,
        "soft_time_limit": soft,
        "prefetch": handler.options.prefetch or settings.prefetch,
    }


def _first(own: float | None, general: float | None) -> float | None:
    return general if own is None else own


def _check_module_name(name: str) -> None:
    if name.endswith(".py") or "/" in name:
        module = name.removesuffix(".py").strip("./").replace("/", ".")
        msg = f"{name!r} is a path: name the module, as {module}"
        raise ConfigurationError(msg)
    if not all(part.isidentifier() for part in name.split(".")):
        msg = f"{name!r} is not the name of a module: write it as myapp.tasks"
        raise ConfigurationError(msg)


def _imported(name: str, act: Callable[[], Any]) -> Any:
    """Run user code. Whatever it raises becomes one line: it may be a user's mistake, even SystemExit."""
    try:
        with importing(name):
            return act()
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            msg = f"there is no module {error.name!r} in {Path.cwd()} or on PYTHONPATH"
            raise ConfigurationError(msg) from error
        raise ConfigurationError(_import_failed(name, error)) from error
    except BaseException as error:  # a module that calls sys.exit() must not end the template
        raise ConfigurationError(_import_failed(name, error)) from error


def _import_failed(name: str, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        at = f" ({error.filename}:{error.lineno})" if error.filename else ""  # a null byte has no place
        return f"cannot import {name}: {type(error).__name__}: {error.msg}{at}"
    return f"cannot import {name}: {_with_place(error)}"


def _with_place(error: BaseException) -> str:
    """Return one line that ends in the last line of the user's code; `<string>` is a dataclass of ours."""
    frames = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen importlib", "<string>", importlib.__file__, _PACKAGE))
    ]
    said = one_line(error)
    where = f" ({frames[-1]})" if frames and frames[-1] not in said else ""
    return f"{said}{where}"


def _attribute(module: object, path: str, target: str) -> object:
    found: object = module
    for part in path.split("."):
        owner, found = found, _imported(target, partial(getattr, found, part, _MISSING))
        if found is _MISSING:
            msg = f"{target}: {getattr(owner, '__name__', type(owner).__name__)} has no attribute {part!r}"
            raise ConfigurationError(msg)
    return found


def _handlers_of(found: object, target: str) -> list[AnyHandler]:
    if isinstance(found, Handler):
        return [found]
    if isinstance(found, HotQueue):
        own = [handler for handler in registered() if handler.queue is found]
        if not own:
            msg = f"{target} is a queue without a handler: decorate a function with @queue.worker"
            raise ConfigurationError(msg)
        return own
    if isinstance(found, list | tuple):
        return [handler for each in found for handler in _handlers_of(each, target)]
    msg = f"{target} is of type {type(found).__name__}: name a handler, a HotQueue, or a list of them"
    raise ConfigurationError(msg)


def _one_per_queue(found: Iterable[AnyHandler], targets: Iterable[str]) -> dict[str, AnyHandler]:
    by_queue: dict[str, AnyHandler] = {}
    for handler in found:
        name = handler.queue.name
        if name in by_queue:
            other = by_queue[name]
            msg = (
                f"two handlers for queue {name!r}: {other.__qualname__} ({other.where})"
                f" and {handler.__qualname__} ({handler.where}):"
                " give each a queue of its own, or name the one as MODULE:HANDLER"
            )
            raise ConfigurationError(msg)
        by_queue[name] = handler
    if not by_queue:
        msg = f"no handler in {', '.join(targets)}: decorate a function with @queue.worker"
        raise ConfigurationError(msg)
    return by_queue


def _chosen(by_queue: dict[str, AnyHandler], choice: QueueChoice) -> list[AnyHandler]:
    for name in choice.names:
        if name not in by_queue:
            msg = f"no handler for queue {name!r} of --queues; there are: {', '.join(sorted(by_queue))}"
            raise ConfigurationError(msg)
    handlers = [by_queue[name] for name in choice.names or by_queue]
    for handler in handlers:
        handler.check_callable_with_message()
    return handlers
