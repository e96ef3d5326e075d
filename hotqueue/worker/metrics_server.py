"""The address of --metrics: threads of the supervisor that answer `/metrics`, `/live` and `/ready`."""

import logging
import socket
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from hotqueue import events, probe
from hotqueue.errors import ConfigurationError
from hotqueue.worker.metrics import Metrics, library

PATIENCE_S = 5.0  # with somebody who connects and says nothing
NEVER_S = 1e6
_TEXT = "text/plain; charset=utf-8"


class MetricsServer:
    """Listens from the beginning, and serves from `start` to the end of the process."""

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        """Raises ConfigurationError if this address cannot be had."""
        try:
            self._server = _Server(host, port, metrics)
        except OSError as error:
            msg = f"--metrics cannot have {host}:{port} ({error.strerror}): choose another address"
            raise ConfigurationError(msg) from error

    def start(self) -> None:
        """Begin. There is no end of its own: to ask for one, a thread would have to wake up now and then."""
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(NEVER_S,), name="hotqueue-metrics", daemon=True).start()


class _Server(socketserver.ThreadingTCPServer):
    """Not `HTTPServer`, which asks DNS for its own name. Who says nothing keeps no probe from its answer."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.metrics = metrics
        self.scraping = threading.Lock()
        self.registry = library("registry").CollectorRegistry(auto_describe=False)
        self.registry.register(metrics)
        super().__init__((host, port), _Request)

    def handle_error(self, _request: object, _client: object) -> None:
        """Log what is not the client's doing."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            events.emit(logging.ERROR, events.METRICS_FAILED, error=error)


class _Request(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer one request."""
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, content_type = library("exposition").choose_encoder(self.headers.get("Accept") or "")
                with self.server.scraping:
                    body = encode(self.server.registry)
                self._say(HTTPStatus.OK, content_type, body)
            case "/live" | "/ready" as path:
                answer = probe.judge(path[1:], self.server.metrics.record)
                status = HTTPStatus.SERVICE_UNAVAILABLE if answer.code else HTTPStatus.OK
                self._say(status, _TEXT, f"{answer.line}\n".encode())
            case _:
                self._say(HTTPStatus.NOT_FOUND, _TEXT, b"There are /metrics, /live and /ready.\n")

    def _say(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: who scrapes does so for ever."""
