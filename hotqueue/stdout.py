"""The standard output of a command that cannot be written: it is closed, nobody reads it, a disk is full."""

import os
import sys


def ensure() -> None:
    """Have one that takes everything where it was closed before we began."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a probe pays for pathlib


def given_up(error: OSError) -> str:
    """Have all that is still written go nowhere; return what to say of it, nothing if the reader has left.

    Without that the interpreter, too, would complain on its way out.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return "" if isinstance(error, BrokenPipeError) else f"the output could not be written: {error.strerror}"
