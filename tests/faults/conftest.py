"""The fixtures of tests that run workers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.servers import LiveServer, fresh_server
from tests.support.shop import Shop, anywhere, delivery, parent, shop

__all__ = ["anywhere", "delivery", "own", "parent", "server_with", "shop"]

ServerWith = Callable[..., AbstractContextManager[LiveServer]]


@pytest.fixture
def server_with(shop: Shop, tmp_path: Path) -> ServerWith:
    """Makes a server with these directives, and the shop use it."""

    @contextmanager
    def make(**directives: str) -> Iterator[LiveServer]:
        with fresh_server(tmp_path, **directives) as server:
            shop.server = server
            shop.env["HOTQUEUE_URL"] = server.url
            yield server

    return make


@pytest.fixture
def own(server_with: ServerWith) -> Iterator[LiveServer]:
    """A server of the test's own, which keeps what it was told over a restart."""
    with server_with(appendonly="yes", appendfsync="always") as server:
        yield server
