"""Where the command begins: what it needs takes a moment to import, and signals must not end it meanwhile."""

from typing import NoReturn

from hotqueue.worker import signals


def main() -> NoReturn:
    """Run `hotqueue-worker`."""
    signals.hold()
    from hotqueue.worker import cli  # noqa: PLC0415 - this is what takes its time

    cli.main()
