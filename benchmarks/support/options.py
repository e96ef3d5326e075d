"""The options that the benchmarks share."""

import argparse

from support.server import AOF, KINDS


def parser(doc: str | None, *, messages: int) -> argparse.ArgumentParser:
    """Return a parser with the shared options; `messages` is the default number of them."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )  # fmt: skip
    made.add_argument("--messages", type=positive, default=messages, help="measured in one run")
    made.add_argument("--rounds", type=positive, default=3, help="runs of each contender")
    made.add_argument("--payload", type=int, default=100, help="bytes of one message before pickling")
    made.add_argument("--server", choices=KINDS, default="valkey", help="which server to start")
    made.add_argument("--aof", choices=AOF, default="no", help="append-only file: off, or its fsync")
    return made


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = f"must be 1 or more, not {number}"
        raise argparse.ArgumentTypeError(msg)
    return number
