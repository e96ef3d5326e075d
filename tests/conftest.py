"""Fixtures that everybody uses. `tests/support/` has what is behind them."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.support.processes import inhabitants, kill_all
from tests.support.proxy import Proxy, proxy_to
from tests.support.servers import LiveServer, fresh_server, kinds, usual_kind
from tests.support.watchdog import watching

# How long an example takes says more of what else the machine does; how large the first ones are is chance.
settings.register_profile(
    "any machine",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _watchdog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with watching(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_ignored() -> None:
    """As under nohup, or in the background of a shell: every process of the tests would inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LiveServer]]:
    """One server of each kind, started when first asked for."""
    running: dict[str, LiveServer] = {}
    with ExitStack() as stack:

        def get(kind: str) -> LiveServer:
            if kind not in running:
                folder = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(fresh_server(folder, kind))
            return running[kind]

        yield get


@pytest.fixture(scope="session")
def server(_servers: Callable[[str], LiveServer]) -> LiveServer:
    """The server of this run of pytest. Its data are whatever the last test left; see `redis_url`."""
    return _servers(usual_kind())


@pytest.fixture(params=sorted(kinds()))
def any_server(request: pytest.FixtureRequest, _servers: Callable[[str], LiveServer]) -> LiveServer:
    """The same test once with each kind of server that is installed, emptied."""
    found = _servers(request.param)
    found.admin.flushall()
    return found


@pytest.fixture
def redis_url(server: LiveServer) -> str:
    """The address of the session's server, emptied."""
    server.admin.flushall()
    return server.url


@pytest.fixture
def client(redis_url: str, server: LiveServer) -> Iterator[redis.Redis]:
    """A plain client of the server behind `redis_url`."""
    with redis.Redis.from_url(redis_url) as plain:
        yield plain


@pytest.fixture
def proxy(server: LiveServer, redis_url: str) -> Iterator[Proxy]:
    """What does harm between a client and the server behind `redis_url`."""
    with proxy_to(server.port) as between:
        yield between


@pytest.fixture
def private_folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of a private server, not there yet; whatever server is left in it is killed."""
    folder = tmp_path / "private"
    yield folder
    kill_all(lambda: inhabitants(folder))
