"""One typed function for each Lua file in `lua/`, whose header says what it does, takes and returns."""

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from hotqueue import keys
from hotqueue.connection import Connection
from hotqueue.errors import OutcomeUnknown, Refused
from hotqueue.frame import id_text, peek_id

NO_CLAIM = -1  # the claim of whoever knows none: matches nothing in Redis
RELEASE_FRAMES = 500
RELEASE_BYTES = 1 << 20

Fate = Literal["release", "replace", "bury"]

# Answers that Redis gives before it runs a script, or from inside of one: those say where. After an error
# from inside, and after any other, a part may have been done; but some come at the first write or never.
_NOT_RUN = {
    "NOSCRIPT", "NOPERM", "NOAUTH", "WRONGPASS", "LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN",
    "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS",
}  # fmt: skip
_AT_FIRST_WRITE = {"OOM", "READONLY", "MISCONF", "NOREPLICAS"}
_INSIDE = "@user_script"


class Script:
    """A Lua file, called by its hash and sent whole only to a server that does not have it."""

    def __init__(self, name: str) -> None:
        """Read `lua/NAME.lua`."""
        self._source = files("hotqueue").joinpath("lua", f"{name}.lua").read_bytes()
        self._sha = hashlib.sha1(self._source, usedforsecurity=False).hexdigest()

    def __call__(self, connection: Connection, names: list[str], *args: bytes | str | float) -> Any:
        """Run it. Raises Refused where nothing was done, OutcomeUnknown where something may have been."""
        try:
            try:
                return connection.call("EVALSHA", self._sha, len(names), *names, *args)
            except Refused as refused:
                if refused.code != "NOSCRIPT":
                    raise
                return connection.call("EVAL", self._source, len(names), *names, *args)
        except Refused as refused:
            inside = _INSIDE in str(refused)
            if refused.code in (_AT_FIRST_WRITE if inside else _NOT_RUN):
                raise
            msg = f"a script failed and may have done a part: {refused}"
            raise OutcomeUnknown(msg) from refused


_register = Script("register")
_take = Script("take")
_bury = Script("bury")
_retry = Script("retry")
_bury_popped = Script("bury_popped")
_give_back = Script("give_back")
_renew = Script("renew")
_retire = Script("retire")
_hand_back = Script("hand_back")


def register(connection: Connection, queue: str, incarnation: str, lease_ms: int, owner: str) -> None:
    """Enter a new incarnation. Its first claim is number 0."""
    names = [keys.consumers(queue), keys.claims(queue), keys.owners(queue), keys.retired(queue)]
    _register(connection, names, incarnation, lease_ms, owner)


def take(
    connection: Connection, queue: str, incarnation: str, claim: int, *, done: int, count: int, max_bytes: int
) -> list[Any] | None:
    """Acknowledge `done` and claim up to `count`.

    Returns [next claim, frame, …], or None for a retired incarnation.
    """
    names = [
        keys.key_for_name(queue), keys.inflight(queue, incarnation), keys.claims(queue), keys.counters(queue),
    ]  # fmt: skip
    reply: list[Any] | None = _take(connection, names, incarnation, claim, done, count, max_bytes)
    return reply


def bury(
    connection: Connection, queue: str, incarnation: str, claim: int, *, done: int, frame: bytes
) -> int | None:
    """Acknowledge `done` and bury the one after it as `frame`.

    Returns the next claim, or None for a retired incarnation.
    """
    names = [keys.inflight(queue, incarnation), keys.claims(queue), keys.dead(queue), keys.counters(queue)]
    reply: int | None = _bury(connection, names, incarnation, claim, done, frame)
    return reply


def retry(
    connection: Connection,
    queue: str,
    incarnation: str,
    claim: int,
    *,
    done: int,
    frame: bytes,
    delay_ms: float,
) -> int | None:
    """Acknowledge `done` and put the one after it aside as `frame`; at the tail for a delay of 0.

    Returns the next claim, or None for a retired incarnation.
    """
    names = [
        keys.inflight(queue, incarnation), keys.claims(queue), keys.delayed(queue), keys.counters(queue),
        keys.key_for_name(queue),
    ]  # fmt: skip
    reply: int | None = _retry(connection, names, incarnation, claim, done, frame, delay_ms)
    return reply


def bury_popped(connection: Connection, queue: str, frame: bytes) -> None:
    """Bury a frame that was popped and is on no list any more."""
    _bury_popped(connection, [keys.dead(queue)], frame)


def give_back(connection: Connection, queue: str, frame: bytes) -> None:
    """Put a frame that was popped back to the head of the queue."""
    _give_back(connection, [keys.key_for_name(queue)], frame)


def renew(connection: Connection, queue: str, lease_ms: int, incarnations: list[str]) -> list[str]:
    """Renew leases; return the incarnations that are not registered any more."""
    gone = _renew(connection, [keys.consumers(queue)], lease_ms, *incarnations)
    return [name.decode() for name in gone]


def hand_back(connection: Connection, queue: str, incarnation: str, claim: int, *, keep: int) -> int:
    """Release what a claim holds behind its first `keep` frames; return how many that were.

    To be called once its consumer cannot start those any more. To do it again does no harm.
    """
    names = [keys.key_for_name(queue), keys.inflight(queue, incarnation), keys.claims(queue)]
    return int(_hand_back(connection, names, incarnation, claim, keep))


@dataclass(frozen=True, slots=True)
class Retired:
    """What `retire` did; `ids` are those of 20 of the released at most, as far as they have one."""

    believed: bool
    released: int
    ids: tuple[str, ...] = field(default=(), compare=False)


def retire(
    connection: Connection,
    queue: str,
    incarnation: str,
    claim: int,
    *,
    done: int = 0,
    fate: Fate = "release",
    frame: bytes = b"",
    sweep_ms: int | None = None,
) -> Retired:
    """End an incarnation, releasing what it held to the head of the queue, in as many calls as that takes.

    `sweep_ms` is when its list is looked at once more, as a command of it may still arrive; None if none can.
    To do it again after a failure does no harm.
    """
    names = [
        keys.key_for_name(queue), keys.inflight(queue, incarnation), keys.consumers(queue),
        keys.claims(queue), keys.owners(queue), keys.retired(queue), keys.dead(queue), keys.counters(queue),
    ]  # fmt: skip
    limits = ("" if sweep_ms is None else sweep_ms, RELEASE_FRAMES, RELEASE_BYTES)
    believed, released, left, heads = _retire(
        connection, names, incarnation, claim, done, fate, frame, *limits, 0
    )
    rest = (NO_CLAIM, 0, "release", b"", *limits, 1)
    while left:
        _, more, left, heads = _retire(connection, names, incarnation, *rest)
        released += more
    ids = tuple(id_text(peek_id(head)) for head in reversed(heads) if any(peek_id(head)))
    return Retired(bool(believed), released, ids)
