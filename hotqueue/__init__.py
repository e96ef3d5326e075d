"""HotQueue: a Redis list as a message queue, and workers that lose nothing."""

from hotqueue.delivery import Delivery, current
from hotqueue.errors import BadMessage, ConfigurationError, HotQueueError, NotSent, OutcomeUnknown, TooLarge
from hotqueue.keys import key_for_name
from hotqueue.queue import HotQueue

__all__ = [
    "BadMessage",
    "ConfigurationError",
    "Delivery",
    "HotQueue",
    "HotQueueError",
    "NotSent",
    "OutcomeUnknown",
    "TooLarge",
    "current",
    "key_for_name",
]
__version__ = "1.0.0"
