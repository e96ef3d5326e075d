"""A web process that enqueues and a worker that greets: the two halves of Procfile.example."""

import os
import signal
import sys
from collections.abc import Iterable
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from hotqueue import HotQueue

queue = HotQueue("greetings")


@queue.worker
def greet(name: str) -> None:
    print(f"Hello, {name}!", flush=True)


def web(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/") or "world"
    queue.enqueue(name)
    start_response("202 Accepted", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{name} will be greeted\n".encode()]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    make_server("127.0.0.1", int(os.environ.get("PORT", "5000")), web).serve_forever()
