"""The ``hotqueue`` command: look at queues and operate them. One file per subcommand."""

import contextlib
import sys
from collections.abc import Sequence

from hotqueue import probe, stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    stdout.ensure()
    if words[:1] == ["health"] and (answer := probe.asked(words[1:])) is not None:
        with contextlib.suppress(OSError):  # whoever asks by the code alone may have closed it
            print(answer.line, flush=True)  # noqa: T201 - as a probe does without click
        return answer.code
    from hotqueue.cli import group  # noqa: PLC0415 - a probe takes half the time without it

    return group.run(words)
