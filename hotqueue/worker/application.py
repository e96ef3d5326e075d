"""The user's application: imported once, and what of it the worker shall run."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hotqueue.ending import one_line
from hotqueue.errors import ConfigurationError
from hotqueue.handler import Handler, importing, registered
from hotqueue.queue import HotQueue
from hotqueue.worker.settings import QueueChoice

AnyHandler = Handler[..., Any]

_PACKAGE = str(Path(__file__).parents[1])


def load(targets: Iterable[str], choice: QueueChoice) -> list[AnyHandler]:
    """Import `MODULE[:ATTRIBUTE]` targets; return one handler for each queue to serve, ordered by `choice`.

    Raises ConfigurationError of one line for whatever is wrong.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        _imported("django", lambda: importlib.import_module("django").setup())
    found: list[AnyHandler] = []
    for target in targets:
        name, colon, attribute = target.partition(":")
        _check_module_name(name)
        module = _imported(name, lambda name=name: importlib.import_module(name))  # type: ignore[misc]
        found.extend(_handlers_of(_attribute(module, attribute, target), target) if colon else registered())
    return _chosen(_one_per_queue(dict.fromkeys(found), targets), choice)


def _check_module_name(name: str) -> None:
    if name.endswith(".py") or "/" in name:
        module = name.removesuffix(".py").strip("./").replace("/", ".")
        msg = f"{name!r} is a file: name the module, as {module}"
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
        return f"cannot import {name}: {type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen importlib", importlib.__file__, _PACKAGE))
    ]
    said = one_line(error)
    where = f" ({frames[-1]})" if frames and frames[-1] not in said else ""
    return f"cannot import {name}: {said}{where}"


def _attribute(module: object, path: str, target: str) -> object:
    found: object = module
    for part in path.split("."):
        if not hasattr(found, part):
            msg = f"{target}: {getattr(found, '__name__', type(found).__name__)} has no attribute {part!r}"
            raise ConfigurationError(msg)
        found = getattr(found, part)
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
                f" and {handler.__qualname__} ({handler.where}); name the one as MODULE:HANDLER"
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
