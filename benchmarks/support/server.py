"""A server of the benchmark's own: a free loopback port, a folder that goes with it, no snapshots."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from hotqueue.binary import find_binary

KINDS = ("valkey", "redis")
AOF = ("no", "everysec", "always")
_START_S = 30.0


@dataclass(frozen=True)
class Server:
    port: int
    pid: int
    version: str

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port)


@contextmanager
def private_server(kind: str = "valkey", aof: str = "no") -> Iterator[Server]:
    """Run one for the time of the block. `aof` is "no", or how often the append-only file is synced."""
    port = free_port()
    settings = {
        "port": str(port),
        "bind": "127.0.0.1",
        "save": "",
        "appendonly": "no" if aof == "no" else "yes",
        "appendfsync": "everysec" if aof == "no" else aof,
    }
    with tempfile.TemporaryDirectory(prefix="hotqueue-benchmark-") as folder:
        argv = [_program(kind), "--dir", folder]
        for name, value in settings.items():
            argv += [f"--{name}", value]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            yield Server(port, process.pid, _version_when_ready(port, process))
        finally:
            process.kill()
            process.wait()


def _program(kind: str) -> str:
    if kind == "valkey":
        return str(find_binary())
    found = shutil.which("redis-server")
    if found is None:
        msg = "redis-server is not installed here: use --server valkey"
        raise SystemExit(msg)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _version_when_ready(port: int, process: "subprocess.Popen[bytes]") -> str:
    end = time.monotonic() + _START_S
    with redis.Redis(host="127.0.0.1", port=port) as client:
        while True:
            try:
                said = client.info("server")
            except redis.RedisError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.01)
                continue
            if said["process_id"] != process.pid:
                msg = f"port {port} was taken by another server meanwhile: start again"
                raise SystemExit(msg)
            name = "valkey" if "valkey_version" in said else "redis"
            return f"{said.get('server_name', name)} {said.get('valkey_version', said['redis_version'])}"
