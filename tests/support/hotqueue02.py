"""What HotQueue 0.2.8 does, in our words: bare pickles, RPUSH, LPOP and BLPOP. For the tests of upgrading."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import redis


class OldHotQueue:
    """The queue of HotQueue 0.2, so far as a program can tell from outside."""

    def __init__(self, name: str, client: redis.Redis, serializer: Any = pickle) -> None:
        self.key = f"hotqueue:{name}"
        self.serializer = serializer
        self._client = client

    def __len__(self) -> int:
        return int(self._client.llen(self.key))  # type: ignore[arg-type]

    def put(self, *messages: object) -> None:
        bodies = messages if self.serializer is None else map(self.serializer.dumps, messages)
        self._client.rpush(self.key, *bodies)  # type: ignore[arg-type]

    def get(self, *, block: bool = False, timeout: float | None = None) -> Any:
        if block:
            found: Any = self._client.blpop([self.key], timeout=timeout or 0)
            body = found and found[1]
        else:
            body = self._client.lpop(self.key)
        return body if body is None or self.serializer is None else self.serializer.loads(body)

    def consume(self, *, block: bool = True, timeout: float | None = None) -> Iterator[Any]:
        while (message := self.get(block=block, timeout=timeout)) is not None:
            yield message

    def worker(self, function: Callable[..., object], **how: Any) -> Callable[..., None]:
        """What the function raises ends the loop, and its message is gone."""

        def loop(*args: object) -> None:
            for message in self.consume(**how):
                function(*args, message)

        return loop
