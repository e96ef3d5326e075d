"""Signals: handlers only record, loops decide."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from hotqueue.wakeup import Wakeup

Handler = Callable[[int, FrameType | None], None]

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_ORDERS = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGCONT, signal.SIGUSR1)
# A child has claimed several messages. By default it does nothing, whoever gets it in the supervisor's place.
CLAIMED = signal.SIGURG
_SUPERVISOR = (*STOPS, *_ORDERS, signal.SIGCHLD, CLAIMED)
# Meant for the supervisor, but a terminal, `kill %1` or `kill -- -GROUP` sends them to its children as well.
_FOR_THE_GROUP = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR2)
# So are these; and a terminal may send one at each write of a process in the background, which it refuses
# unless that one ignores them: with a handler, Python would try again for ever.
_OF_TERMINALS = (signal.SIGTTIN, signal.SIGTTOU)
_BLOCKED = {*_SUPERVISOR, *_FOR_THE_GROUP}


class Inbox:
    """The signals that came to this process, in order."""

    def __init__(self, wakeup: Wakeup) -> None:
        """Install the handlers of the supervisor; every signal wakes `wakeup`, also what `hold` held back."""
        self._wakeup = wakeup
        for number in _SUPERVISOR:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, _nothing)
        signal.signal(signal.SIGUSR2, _nothing)  # ours to children, and no order
        wakeup.on_signals()
        _unblock()

    def take(self) -> list[signal.Signals]:
        """Drain the wake-up, and return what has come since the last time.

        Its pipe has them in order. Python calls the handlers of those that came close together by their
        numbers: after TSTP and CONT, in the end TSTP.
        """
        return [signal.Signals(number) for number in self._wakeup.drain() if number in _SUPERVISOR]


def for_template(wakeup: Wakeup) -> None:
    """Leave group signals to the supervisor, wake up when a child ends. Unblocks what `blocked` blocked."""
    for number in (*_FOR_THE_GROUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, _nothing)
    for number in _OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    wakeup.on_signals()
    _unblock()


def for_child(wakeup: Wakeup) -> None:
    """TERM sets the flag; what is meant for the supervisor does nothing. Unblocks what `blocked` blocked.

    A handler that does nothing, not SIG_IGN: programs that a message handler starts would inherit that.
    """
    for number in _FOR_THE_GROUP:
        signal.signal(number, _nothing)
    for number in _OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda _number, _frame: wakeup.set())
    wakeup.on_signals()
    _let_forks_end()
    _unblock()


def on_soft_limit(interrupt: Callable[[], None]) -> None:
    """Have the supervisor's USR2 call `interrupt` in this child."""
    signal.signal(signal.SIGUSR2, lambda _number, _frame: interrupt())


def hold() -> None:
    """Hold signals back from now on, until there is an `Inbox`: by default most of them end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)


def leave_to_main() -> None:
    """Have this thread receive none. A terminal takes what it writes also when others may not write there."""
    hold()


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold signals back, from before a fork or an exec until the new process has its own handlers."""
    hold()
    try:
        yield
    finally:
        _unblock()


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Have TERM and its like raise KeyboardInterrupt, as INT does, for the time of the block."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """Let none that comes from now on spoil the exit code: an interpreter on its way out has no handlers."""
    for number in (*STOPS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)


def _let_forks_end() -> None:
    """Give TERM its default back in what a handler forks, or it could not end that.

    Held back meanwhile: one that came before would be recorded in the fork, and forgotten.
    """
    term = {signal.SIGTERM}

    def after_in_child() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, term)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, term),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, term),
        after_in_child=after_in_child,
    )


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass
