"""How old a Redis may be."""

import contextlib
import re

from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import ConfigurationError, Refused

OLDEST = (6, 2)  # has LMOVE and BLMOVE


def check_server(address: Address) -> None:
    """Do that of a server that must answer now. Raises NotSent and OutcomeUnknown, too."""
    with contextlib.closing(Connection(address, CONSUMER_TIMEOUT_S)) as connection:
        check_version(connection)


def check_version(connection: Connection) -> None:
    """Raise ConfigurationError if the server is too old for at-least-once; one that does not say passes.

    Raises what `Connection.call` raises, too.
    """
    try:
        said = connection.call("INFO", "server")
    except Refused as refused:
        if refused.code in {"NOPERM", "ERR"}:  # an ACL, or the command was renamed
            return
        raise
    found = re.search(rb"redis_version:((\d+)\.(\d+)\S*)", said)
    if found and (int(found[2]), int(found[3])) < OLDEST:
        msg = (
            f"Redis {found[1].decode()} at {connection.address} is too old for at-least-once, which needs"
            f" {'.'.join(map(str, OLDEST))}: upgrade, or use delivery='at-most-once'"
        )
        raise ConfigurationError(msg)
