"""HotQueue: a Redis list as a message queue, and workers that lose nothing."""

from hotqueue.delivery import Delivery, current
from hotqueue.errors import BadMessage, HotQueueError, NotSent, OutcomeUnknown
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
    "current",
    "key_for_name",
]
__version__ = "1.0.0"
