"""A connection on which chosen commands meet with accidents, so that a test can try every command in turn."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import NotSent, OutcomeUnknown, Refused

Kind = Literal[
    "not sent", "refused", "request lost", "reply lost", "late", "dies before", "dies after", "dies and late"
]
Act = Callable[[], None]
_EXECUTED = {"reply lost", "dies after"}
_FATAL = {"dies before", "dies after", "dies and late"}
_MESSAGE = "a fault of the test"


class Died(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Fault:
    """What happens to command number `at`, from 0. A late one arrives before the `late_by`-th after it."""

    kind: Kind
    at: int
    late_by: int = 0


class Faulty(Connection):
    """As a connection is, but for the faults."""

    def __init__(self, address: Address, *faults: Fault) -> None:
        super().__init__(address, CONSUMER_TIMEOUT_S)
        self.sent: list[tuple[Any, ...]] = []
        self.faults = {fault.at: fault for fault in faults}
        self._late: dict[
            int, list[tuple[Any, ...]]
        ] = {}  # by the number of the command before which it arrives
        self._struck: Fault | None = None
        self.before: dict[int, Act] = {}  # what else happens before a command

    def send(self, *command: Any) -> None:
        number = len(self.sent)
        self.sent.append(command)
        self.before.get(number, lambda: None)()
        for late in self._late.pop(number, []):
            self._run_elsewhere(late)
        fault = self.faults.get(number)
        if fault is None:
            super().send(*command)
            return
        if fault.kind == "dies before":
            raise Died
        if fault.kind == "not sent":
            self.close()
            raise NotSent(_MESSAGE)
        self._struck = fault
        if fault.kind in _EXECUTED:
            super().send(*command)
        elif "late" in fault.kind:
            self._late.setdefault(number + fault.late_by, []).append(command)

    def read(self) -> Any:
        fault, self._struck = self._struck, None
        if fault is None:
            return super().read()
        if fault.kind == "refused":
            raise Refused(_MESSAGE, "OOM")
        if fault.kind in _EXECUTED:
            super().read()
        self.close()
        raise Died if fault.kind in _FATAL else OutcomeUnknown(_MESSAGE)

    def deliver_late(self) -> None:
        """Have the server run now what is still held back."""
        for late in [command for commands in self._late.values() for command in commands]:
            self._run_elsewhere(late)
        self._late.clear()

    def _run_elsewhere(self, command: tuple[Any, ...]) -> None:
        other = Connection(self.address, CONSUMER_TIMEOUT_S)
        with contextlib.suppress(Refused):  # nobody hears it
            other.call(*command)
        other.close()
