"""What handlers print, where somebody else has a hand on the stream."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from hotqueue.worker import output


@contextmanager
def standard_output(descriptor: int) -> Iterator[None]:
    """Have that of the process end there; it is closed in the end."""
    before = os.dup(1)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def test_to_print_more_than_a_non_blocking_pipe_holds_waits_for_its_reader_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    lines = ["x" * 1000] * 200
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    with ThreadPoolExecutor() as pool, os.fdopen(read) as reader, capfd.disabled():
        with standard_output(write):
            output.make_lenient()
            read_back = pool.submit(lambda: [reader.readline().rstrip() for _ in lines])
            for line in lines:
                sys.stdout.write(f"{line}\n")
        assert read_back.result() == lines
