"""What lies where in a queue, message by message, and what a test may do to its clocks."""

from collections import defaultdict

import redis

from hotqueue import keys
from hotqueue.errors import BadMessage
from hotqueue.frame import unpack

_NO_TTL = -1
_ORDERED = {b"list", b"zset"}


def body_of(raw: bytes) -> bytes:
    """What tells a message from others through all its frames and trails."""
    try:
        return unpack(raw).body
    except BadMessage:
        return raw


def places_of_each(frames: dict[str, list[bytes]]) -> dict[bytes, list[str]]:
    """The keys under which each message lies; what is nowhere is not in it."""
    places = defaultdict(list)
    for key, all_ in frames.items():
        for raw in all_:
            places[body_of(raw)].append(key)
    return dict(places)


class Places:
    """All places of one queue, on a server that has no other."""

    def __init__(self, client: redis.Redis, queue: str) -> None:
        self._client = client
        self._queue = queue
        self.waiting = keys.key_for_name(queue)
        self.dead = keys.dead(queue)
        self.delayed = keys.delayed(queue)
        self._in_flight = keys.inflight(queue, "")
        self._clocks = (self.delayed, keys.consumers(queue), keys.retired(queue))
        self._registry = (keys.consumers(queue), keys.claims(queue), keys.owners(queue))

    def frames(self) -> dict[str, list[bytes]]:
        """Everything that could be a message, by key, whatever the key is called."""
        names = self._client.keys("*")
        look = self._client.pipeline(transaction=False)
        for name in names:
            look.type(name)
        kinds = {name: kind for name, kind in zip(names, look.execute(), strict=True) if kind in _ORDERED}
        for name, kind in kinds.items():
            look.lrange(name, 0, -1) if kind == b"list" else look.zrange(name, 0, -1)
        found = zip(kinds, look.execute(), strict=True)
        return {name.decode(): frames for name, frames in found if name.decode() not in self._clocks[1:]}

    def is_in_flight(self, key: str) -> bool:
        return key.startswith(self._in_flight)

    def owned(self) -> set[str]:
        """The lists in flight that have an owner whose lease can lapse, or that are to be swept."""
        living, retired = self._entries()
        return {self._in_flight + name.decode() for name in set.intersection(*living) | retired}

    def registered(self) -> set[bytes]:
        """The incarnations of which anything is known."""
        living, retired = self._entries()
        return set.union(*living) | retired

    def _entries(self) -> tuple[list[set[bytes]], set[bytes]]:
        consumers, claims, owners = self._registry
        look = self._client.pipeline(transaction=False)
        look.zrange(consumers, 0, -1).hkeys(claims).hkeys(owners).zrange(keys.retired(self._queue), 0, -1)
        *living, retired = map(set, look.execute())
        return living, retired

    def age(self, seconds: float) -> None:
        """Have everything in Redis look as it will in so many seconds.

        What is over already keeps its time: an observer knows a lease by when it ended.
        """
        now_s, micros = self._client.time()
        for name in self._clocks:
            for member in self._client.zrangebyscore(name, now_s * 1000 + micros / 1000, "inf"):
                self._client.zincrby(name, -seconds * 1000, member)
        for name in self._client.keys("*"):
            left_ms = int(self._client.pttl(name))
            if left_ms != _NO_TTL:
                self._client.pexpire(name, max(0, left_ms - int(seconds * 1000)))
