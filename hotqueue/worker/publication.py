"""The publication: what a supervisor says of itself in Redis, for those who look from anywhere."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hotqueue import identity, keys, queue_scripts
from hotqueue.connection import Connection
from hotqueue.errors import OutcomeUnknown, Refused
from hotqueue.upkeep import LEASE_MS, RENEW_EVERY_S

SOON_S = 1.0  # while somebody watches, or children are coming up


class Publication:
    """The main loop brings it up to date, and keepers publish it: none of them waits for another."""

    def __init__(self) -> None:
        """Nothing is there to be published yet."""
        self._id = identity.text(identity.new_incarnation())
        self._values: tuple[str, ...] = ()
        self._is_settled = False
        self._is_over = False

    def update(self, record: Mapping[str, Any], deaths: Iterable[Mapping[str, Any]]) -> None:
        """Take what the worker is like now."""
        self._values = json.dumps(record), json.dumps(list(deaths))
        self._is_settled = record["ready"] >= record["wanted"]

    def publish(self, connection: Connection) -> float | None:
        """Put it there for as long as a lease lasts; return in how many seconds to come again.

        Raises NotSent or OutcomeUnknown. None if Redis refuses: for lack of rights, or because another node
        of a cluster has these keys, and then that harms nobody's work.
        """
        if not self._values:  # `--check` says nothing, and a keeper may be ahead of the main loop
            return SOON_S
        connection.open()
        says = dict(zip(keys.SAYS, self._values, strict=True))
        try:
            is_watched = queue_scripts.publish(connection, self._id, LEASE_MS, says)
        except Refused:
            return None
        except OutcomeUnknown as error:
            if not isinstance(error.__cause__, Refused):
                raise
            return None
        return SOON_S if is_watched or not self._is_settled else RENEW_EVERY_S

    def close(self) -> None:
        """Have the keepers withdraw it, each where it ends."""
        self._is_over = True

    def withdraw(self, connection: Connection) -> None:
        """Take it away if the worker ends, not just this keeper. Raises NotSent or OutcomeUnknown."""
        if self._is_over and connection.is_open:
            with contextlib.suppress(Refused):
                queue_scripts.publish(connection, self._id, 0, {})
