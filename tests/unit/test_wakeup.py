"""A flag with a pipe behind it, and the signals that set it."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from hotqueue import wakeup as wakeup_module
from hotqueue.wakeup import Forced, Wakeup, listening

STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    with closing(Wakeup()) as wakeup:
        yield wakeup


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_set_raises_the_flag_and_wakes_and_a_wake_alone_does_not_raise_it(wakeup: Wakeup) -> None:
    assert not is_readable(wakeup)
    wakeup.wake()
    assert is_readable(wakeup)
    assert not wakeup.is_set
    wakeup.set()
    assert wakeup.is_set


def test_drain_forgets_the_wakes_and_keeps_the_flag(wakeup: Wakeup) -> None:
    for _ in range(10_000):
        wakeup.set()
    wakeup.drain()
    assert not is_readable(wakeup)
    assert wakeup.is_set


def test_more_wakes_than_the_pipe_holds_do_not_block(wakeup: Wakeup) -> None:
    for _ in range(100_000):
        wakeup.wake()
    assert is_readable(wakeup)


def test_a_set_after_the_end_writes_into_nobody_elses_file() -> None:
    wakeup = Wakeup()
    wakeup.close()
    pipes = [os.pipe() for _ in range(4)]  # they get the numbers that have become free
    wakeup.set()
    readable, _, _ = select.select([read for read, _ in pipes], [], [], 0)
    assert readable == []
    for descriptor in [end for pipe in pipes for end in pipe]:
        os.close(descriptor)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_sets_the_flag_and_the_handlers_are_put_back(wakeup: Wakeup, number: int) -> None:
    before = [signal.getsignal(stop) for stop in STOPS]
    with listening(wakeup, STOPS):
        signal.raise_signal(number)
        assert wakeup.is_set
        assert is_readable(wakeup)
    assert [signal.getsignal(stop) for stop in STOPS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_second_ctrl_c_goes_into_a_handler_and_into_nothing_else(wakeup: Wakeup) -> None:
    with listening(wakeup, STOPS):
        for _ in range(5):
            signal.raise_signal(signal.SIGINT)
        wakeup.is_interruptible = True
        with pytest.raises(Forced):
            signal.raise_signal(signal.SIGINT)
        wakeup.is_interruptible = False
        signal.raise_signal(signal.SIGINT)


def test_the_first_ctrl_c_and_every_term_let_a_handler_finish(wakeup: Wakeup) -> None:
    wakeup.is_interruptible = True
    with listening(wakeup, STOPS):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert wakeup.is_set


def test_an_exception_in_the_block_puts_the_handlers_back_as_well(wakeup: Wakeup) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), listening(wakeup, STOPS):
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_handler_that_was_not_made_in_python_becomes_the_default(
    wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    install = signal.signal
    answers = iter([None])
    monkeypatch.setattr(
        wakeup_module.signal, "signal", lambda *args: (install(*args), next(answers, install))[1]
    )
    with listening(wakeup, [signal.SIGUSR2]):
        pass
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    install(signal.SIGUSR2, before)


def test_another_thread_leaves_signals_alone(wakeup: Wakeup) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def listen() -> None:
        with listening(wakeup, STOPS):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
