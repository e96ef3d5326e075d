"""Queues that no consumer has made known, found by their keys."""

import re
from collections.abc import Iterable

from hotqueue import keys
from hotqueue.errors import ConfigurationError, Refused
from hotqueue.pool import Pool

_KEYS = 1000  # looked at in one call, which takes the server 0.3 ms
_FIRST_CALLS, _LATER_CALLS = 100, 1
_MOST_FOUND = 1000
_OF_QUEUE = re.compile(rb"hotqueue:(.+)|\{hotqueue:([^}]+)\}:")


class Finder:
    """Looks at a bounded number of keys at once, and each time goes on from where it was.

    `lacks` says why some queues may not have been found, and is empty once all keys were looked at.
    """

    def __init__(self, pool: Pool) -> None:
        """Nothing is sent before `look`."""
        self._pool = pool
        self._cursor = b"0"
        self._calls = _FIRST_CALLS
        self._names: dict[str, bool] = {}  # and whether it is that of a queue
        self.lacks = "too many keys to scan"

    def look(self, known: Iterable[str]) -> set[str]:
        """Return the names found so far, besides those `known`. Raises NotSent or OutcomeUnknown."""
        self._names |= dict.fromkeys(known, False)
        try:
            self._scan()
        except Refused:
            self._calls, self.lacks = 0, "SCAN is refused"
        return {name for name, is_queue in self._names.items() if is_queue}

    def _scan(self) -> None:
        calls, self._calls = self._calls, min(self._calls, _LATER_CALLS)
        for _ in range(calls):
            if sum(self._names.values()) >= _MOST_FOUND:
                return
            command = ("SCAN", self._cursor, "MATCH", "*hotqueue:*", "COUNT", _KEYS)
            self._cursor, found = self._pool.call(*command)
            for name in filter(None, map(_name, found)):
                if name not in self._names:
                    self._names[name] = self._is_queue(name)
            if self._cursor == b"0":
                self.lacks = ""
                return

    def _is_queue(self, name: str) -> bool:
        """Tell whether it may be counted: other programs have keys, too."""
        try:
            self._pool.call("LLEN", keys.key_for_name(name))
        except Refused:
            return False
        return True


def queue_name(raw: bytes) -> str | None:
    """Return the name of a queue; None for what cannot be one, whoever put it there."""
    try:
        return keys.check_name(raw.decode())
    except (UnicodeDecodeError, ConfigurationError):
        return None


def _name(key: bytes) -> str | None:
    """Return the name of the queue that has this key."""
    found = _OF_QUEUE.match(key)
    return queue_name(found[1] or found[2]) if found else None
