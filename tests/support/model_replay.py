"""The commands of the model, given to the real scripts; and what Redis holds, in the words of the model."""

from collections.abc import Iterable
from typing import Any

import redis

from hotqueue import identity, keys, queue_scripts, scripts
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.upkeep import LAPSED_FOR_S, LEASE_MS, Upkeep
from tests.support.model_server import MESSAGES, Command, Server

Q = "q"
_OVER_MS = 1
_NEVER_SOON_S = 3600


class Replay:
    """One queue, from the state in which the model begins."""

    def __init__(self, client: redis.Redis, address: Address) -> None:
        self._client = client
        self._client.flushall()
        self._client.rpush(keys.key_for_name(Q), *map(str, MESSAGES))
        self._connection = Connection(address, CONSUMER_TIMEOUT_S)
        self._connection.open()
        self._now_s = 0.0
        self._observer = Upkeep(Q, self._connection, clock=lambda: self._now_s)

    def close(self) -> None:
        self._connection.close()

    def carry_out(self, command: Command) -> object:
        """Its reply, as the model says it."""
        return getattr(self, f"_{command.act}")(command, identity.text(command.incarnation))

    def holds(self) -> Server:
        """All that the model knows, but for what the observer keeps to itself."""
        claims = self._client.hgetall(keys.claims(Q))
        prefix = keys.inflight(Q, "")
        lists = {name.decode().removeprefix(prefix): name for name in self._client.keys(f"{prefix}*")}
        retired = self._client.zrange(keys.retired(Q), 0, -1)
        over = queue_scripts.lapsed(self._connection, Q, LEASE_MS)
        return Server(
            waiting=_frames(self._client.lrange(keys.key_for_name(Q), 0, -1)),
            lists=tuple(
                sorted((_number(each), _frames(self._client.lrange(lists[each], 0, -1))) for each in lists)
            ),
            claims=tuple(sorted((_number(name.decode()), int(claim)) for name, claim in claims.items())),
            retired=tuple(sorted(_number(name.decode()) for name in retired)),
            dead=_frames(self._client.zrange(keys.dead(Q), 0, -1)),
            delayed=_frames(self._client.zrange(keys.delayed(Q), 0, -1)),
            careful=int(self._client.hget(keys.counters(Q), "careful") or 0),
            paused=queue_scripts.tend(self._connection, Q).paused,
            over=tuple(sorted(map(_number, over))),
        )

    def _register(self, command: Command, name: str) -> None:
        scripts.register(self._connection, Q, name, LEASE_MS, identity.owner())

    def _wait(self, command: Command, name: str) -> object:
        source, own = keys.key_for_name(Q), keys.inflight(Q, name)
        found = self._connection.call("BLMOVE", source, own, "LEFT", "RIGHT", 0.001)
        return () if found is None else (int(found),)

    def _take(self, command: Command, name: str) -> object:
        limits = {"done": command.done, "count": command.most, "max_bytes": 1 << 20}
        reply = scripts.take(self._connection, Q, name, command.claim, **limits)
        return None if reply is None else (reply[0], _frames(reply[1:]))

    def _bury(self, command: Command, name: str) -> object:
        frame = b"%d" % command.frame
        return scripts.bury(self._connection, Q, name, command.claim, done=command.done, frame=frame)

    def _retry(self, command: Command, name: str) -> object:
        what: dict[str, Any] = {"done": command.done, "frame": b"%d" % command.frame}
        return scripts.retry(self._connection, Q, name, command.claim, **what, delay_ms=_NEVER_SOON_S * 1000)

    def _retire(self, command: Command, name: str) -> object:
        retired = scripts.retire(
            self._connection, Q, name, command.claim,
            done=command.done,
            fate=command.fate,  # type: ignore[arg-type]
            frame=b"%d" % command.frame,
            sweep_ms=LEASE_MS if command.sweep else None,
        )  # fmt: skip
        return retired.believed, retired.released

    def _hand_back(self, command: Command, name: str) -> object:
        return scripts.hand_back(self._connection, Q, name, command.claim, keep=command.done)

    def _is_due(self, command: Command, name: str) -> None:
        self._client.zadd(keys.delayed(Q), {str(command.frame): _OVER_MS}, xx=True)
        assert queue_scripts.tend(self._connection, Q).moved == 1

    def _pause(self, command: Command, name: str) -> None:
        self._client.set(keys.paused(Q), 1)

    def _resume(self, command: Command, name: str) -> None:
        self._client.delete(keys.paused(Q))

    def _lapse(self, command: Command, name: str) -> None:
        self._client.zadd(keys.consumers(Q), {name: _OVER_MS}, xx=True)

    def _renew(self, command: Command, name: str) -> None:
        scripts.renew(self._connection, Q, LEASE_MS, [name])

    def _look(self, command: Command, name: str) -> None:
        """The first time hardly later than before; to look again means long enough after that."""
        self._now_s += LAPSED_FOR_S if command.sweep else 0
        self._observer.take_over()


def _number(incarnation: str) -> int:
    return int(incarnation, 16)


def _frames(found: Iterable[bytes]) -> tuple[int, ...]:
    return tuple(map(int, found))
