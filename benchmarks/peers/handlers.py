"""What every contestant's handler does with a message, whoever calls it.

BENCHMARK_HANDLER says which of the three it is. Used in every peer's environment.
"""

import asyncio
import os
import time
from pathlib import Path

from peers.board import Board

_board = Board(Path(os.environ["BENCHMARK_BOARD"]))
_notes = os.open(os.environ["BENCHMARK_NOTES"], os.O_WRONLY | os.O_APPEND)
_kind = os.environ["BENCHMARK_HANDLER"]
SLEEP_S = 0.05


def count(_message: str) -> None:
    """Do nothing, and let it be counted."""
    _board.count()


def tell(_message: str) -> None:
    """Note when it runs."""
    _note(str(time.monotonic_ns()))
    _board.count()


def take_a_while(message: str) -> None:
    """Note beginning and end: who is killed in between has not run it."""
    _note(f"began {message} {os.getpid()}")
    time.sleep(SLEEP_S)
    _note(f"ended {message}")
    _board.count()


async def take_a_while_async(message: str) -> None:
    _note(f"began {message} {os.getpid()}")
    await asyncio.sleep(SLEEP_S)
    _note(f"ended {message}")
    _board.count()


handle = {"count": count, "tell": tell, "slow": take_a_while}[_kind]

if _kind == "slow":
    handle_async = take_a_while_async
else:

    async def handle_async(message: str) -> None:
        handle(message)


def _note(line: str) -> None:
    os.write(_notes, f"{line}\n".encode())
