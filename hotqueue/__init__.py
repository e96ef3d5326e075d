"""HotQueue: a Redis list as a message queue, and workers that lose nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hotqueue.delivery import Delivery, current
    from hotqueue.errors import BadMessage, HotQueueError, NotSent, OutcomeUnknown, SoftTimeLimit
    from hotqueue.keys import key_for_name
    from hotqueue.queue import HotQueue
    from hotqueue.retries import Reject, Retry

__all__ = [
    "BadMessage",
    "Delivery",
    "HotQueue",
    "HotQueueError",
    "NotSent",
    "OutcomeUnknown",
    "Reject",
    "Retry",
    "SoftTimeLimit",
    "current",
    "key_for_name",
]
__version__ = "1.0.0"

_ERRORS = ("BadMessage", "HotQueueError", "NotSent", "OutcomeUnknown", "SoftTimeLimit")
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    **dict.fromkeys(("Delivery", "current"), "delivery"),
    **dict.fromkeys(("Reject", "Retry"), "retries"),
    "HotQueue": "queue",
    "key_for_name": "keys",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: a probe that reads a status file needs none of it."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
