"""An environment of its own for each peer, below `.bench/`; who cannot be installed is named."""

import subprocess
import sys
from pathlib import Path

from peers.contestants import Contestant

FOLDER = Path(__file__).resolve().parents[2] / ".bench"
_STEP_S = 600.0


class Unavailable(Exception):
    """A contestant cannot take part; the message says why, in one line."""


def python_of(contestant: Contestant) -> Path:
    """Return the interpreter that runs a contestant, installed when it is first asked for."""
    if not contestant.packages:
        return Path(sys.executable)
    folder = FOLDER / contestant.adapter
    python, ready = folder / "bin/python", folder / "installed"
    wanted = "\n".join(contestant.packages)
    if ready.exists() and ready.read_text() == wanted:
        return python
    print(f"installing {', '.join(contestant.packages)}", flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *contestant.packages)
    ready.write_text(wanted)
    return python


def versions_of(contestant: Contestant) -> str:
    """Return which versions it has of the packages that it was installed by."""
    names = [package.partition("[")[0] for package in contestant.packages] or ["hotqueue", "redis", "hiredis"]
    code = (
        "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    )
    return _run(str(python_of(contestant)), "-c", code, *names).strip()


def _run(*argv: str) -> str:
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=_STEP_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
    if ended.returncode:
        raise Unavailable(last_line(ended.stderr) or f"{argv[0]} ended with code {ended.returncode}")
    return ended.stdout


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
