"""A TCP proxy in front of a server that does harm at an exact point, once.

with proxy_to(server.port) as proxy:
    proxy.harm("before the reply", on=b"RPUSH")
    queue.enqueue(1)                              # the server got it, the client never hears of it
"""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Point = Literal[
    "before the request",
    "inside the request",
    "before the reply",
    "inside the reply",
    "freeze",
    "hold the reply",
]
HARMLESS = b"\0no request holds this"


class Proxy:
    """Forwards every connection to one port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._point: Point | None = None
        self._on = HARMLESS
        self._thawed = threading.Event()
        self._ended = threading.Event()
        self._lies: dict[bytes, bytes] = {}
        self._threads = [threading.Thread(target=self._accept)]
        self._requests: list[bytes] = []
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def requests(self) -> bytes:
        """All that clients have sent since `forget`."""
        return b"".join(self._requests)

    def forget(self) -> None:
        self._requests.clear()

    def harm(self, point: Point, on: bytes) -> None:
        """Cut there, at the next request that has `on` in it; or freeze or hold until `thaw`."""
        self._thawed.clear()
        self._point, self._on = point, on

    def thaw(self) -> None:
        """Let go on what a freeze holds."""
        self._thawed.set()

    def lie(self, truth: bytes, lie: bytes) -> None:
        """Say something else of the same length in replies."""
        assert len(truth) == len(lie)
        self._lies[truth] = lie

    def lead_to(self, port: int) -> None:
        """Have connections that are made from here on lead to another server, as a name may."""
        self._target = port

    def close(self) -> None:
        self._ended.set()
        self._thawed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            point: Point | None = None
            while not self._ended.is_set():
                ready, _, _ = select.select([client, server], [], [], 0.05)
                if client in ready:
                    request = client.recv(1 << 20)
                    self._requests.append(request)
                    point = self._struck(request)
                    if not request or point == "before the request":
                        return
                    if point == "inside the request":
                        server.sendall(request[: len(request) // 2])
                        return
                    if point == "freeze":
                        self._thawed.wait()
                    server.sendall(request)
                if server in ready:
                    reply = server.recv(1 << 20)
                    if point == "hold the reply":
                        self._thawed.wait()
                    if point == "inside the reply":
                        client.sendall(reply[: len(reply) // 2])
                    if not reply or point in {"before the reply", "inside the reply"}:
                        return
                    client.sendall(self._changed(reply))

    def _struck(self, request: bytes) -> Point | None:
        if self._on not in request:
            return None
        point, self._point, self._on = self._point, None, HARMLESS
        return point

    def _changed(self, reply: bytes) -> bytes:
        for truth, lie in self._lies.items():
            reply = reply.replace(truth, lie)
        return reply


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy to `port`, gone after the block."""
    with contextlib.closing(Proxy(port)) as proxy:
        yield proxy
