"""The names of all keys in Redis. Every key of one queue lives in one Cluster slot."""

import re

from hotqueue.errors import ConfigurationError

QUEUES = "{hotqueue:}:queues"
SUPERVISORS = "{hotqueue:}:supervisors"  # sorted set: id → until when it is known, in ms
WATCHED = (
    "{hotqueue:}:watched"  # string with a TTL: while it exists, supervisors tell of themselves every second
)
SAYS = ("status", "deaths")  # the fields of a supervisor
_FORBIDDEN = frozenset("{},=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_name(name: object) -> str:
    """Return `name` if a queue may be called so, else raise ``ConfigurationError``."""
    if not isinstance(name, str):
        msg = f"a queue name must be a str, got {type(name).__name__}: {name!r}"
        raise ConfigurationError(msg)
    if not name:
        msg = "a queue name must not be empty"
        raise ConfigurationError(msg)
    if bad := sorted(_FORBIDDEN.intersection(name)):
        msg = f"queue name {name!r} has {' '.join(bad)}: the characters {{ }} , = are reserved"
        raise ConfigurationError(msg)
    if _CONTROL.search(name):
        msg = f"queue name {name!r} has control characters: it stands in titles of processes and in lines"
        raise ConfigurationError(msg)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        msg = f"queue name {name!r} is not text that can be written as UTF-8"
        raise ConfigurationError(msg) from error
    return name


def key_for_name(name: str) -> str:
    """Return the key of the Redis list that holds the waiting messages of queue `name`."""
    return f"hotqueue:{name}"


def inflight(name: str, incarnation: str) -> str:
    """List: what that incarnation has claimed, oldest first. Never a TTL."""
    return f"{{hotqueue:{name}}}:inflight:{incarnation}"


def consumers(name: str) -> str:
    """Sorted set: incarnation → end of its lease, in ms of the server's clock. Never a TTL."""
    return f"{{hotqueue:{name}}}:consumers"


def claims(name: str) -> str:
    """Hash: incarnation → the number of its latest claim. Who is not in it may do nothing."""
    return f"{{hotqueue:{name}}}:claims"


def counters(name: str) -> str:
    """Hash: `done` counts acknowledged messages, `careful` those to take singly, `trimmed` deleted dead."""
    return f"{{hotqueue:{name}}}:counters"


def owners(name: str) -> str:
    """Hash: incarnation → JSON that says which process it is, for people and for recovery."""
    return f"{{hotqueue:{name}}}:owners"


def retired(name: str) -> str:
    """Sorted set: incarnation that has ended → when its list is swept once more, in ms."""
    return f"{{hotqueue:{name}}}:retired"


def delayed(name: str) -> str:
    """Sorted set: frame → when it is due, in ms."""
    return f"{{hotqueue:{name}}}:delayed"


def dead(name: str) -> str:
    """Sorted set: frame → when it was buried, in ms."""
    return f"{{hotqueue:{name}}}:dead"


def supervisor(name: str) -> str:
    """Hash with a TTL: what a supervisor says of itself, in JSON."""
    return f"{{hotqueue:}}:supervisor:{name}"


def paused(name: str) -> str:
    """String, with a TTL where the pause has an end: the queue is paused while it exists."""
    return f"{{hotqueue:{name}}}:paused"


def unique(name: str, key: str) -> str:
    """String with a TTL: the id of the message that was sent under this unique key."""
    return f"{{hotqueue:{name}}}:unique:{key}"
