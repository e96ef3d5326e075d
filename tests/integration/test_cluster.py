"""A real cluster of three nodes: all that is done to a queue is done in one slot, so on one node."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from hotqueue import HotQueue, NotSent, Reject, keys, queue_scripts, scripts
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import ConfigurationError, Full, Refused
from hotqueue.upkeep import Upkeep
from hotqueue.watch import Watch
from tests.support.servers import LiveServer, fresh_server, kinds
from tests.support.waiting import wait_until

SLOTS = 16384
NODES = 3
SHARE = -(-SLOTS // NODES)  # of each node


class Cluster:
    """Its nodes, and a queue name for each of them."""

    def __init__(self, nodes: list[LiveServer]) -> None:
        self.nodes = nodes
        for number, node in enumerate(nodes):
            last = min((number + 1) * SHARE, SLOTS) - 1
            node.admin.execute_command("CLUSTER ADDSLOTSRANGE", number * SHARE, last)
        for node in nodes[1:]:
            node.admin.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        wait_until(lambda: all(map(self._is_whole, nodes)), 60, "the cluster is whole")
        self.queues = [self._name_of(number) for number in range(len(nodes))]

    @staticmethod
    def _is_whole(node: LiveServer) -> bool:
        said = node.admin.execute_command("CLUSTER INFO")
        return said["cluster_state"] == "ok" and said["cluster_known_nodes"] == str(NODES)

    @staticmethod
    def _name_of(number: int) -> str:
        names = (f"queue{suffix}" for suffix in range(1000))
        return next(name for name in names if key_slot(keys.key_for_name(name).encode()) // SHARE == number)


@pytest.fixture(scope="module", params=sorted(kinds()))
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        yield Cluster(
            [
                stack.enter_context(fresh_server(folder, request.param, cluster_enabled="yes"))
                for _ in range(NODES)
            ]
        )


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the scripts that were called."""
    names: set[str] = set()
    for module in (scripts, queue_scripts):
        for attribute, script in vars(module).copy().items():
            if isinstance(script, scripts.Script):
                monkeypatch.setattr(module, attribute, _noting(script, names, attribute.lstrip("_")))
    return names


def _noting(script: scripts.Script, names: set[str], name: str) -> Any:
    def call(*args: Any) -> Any:
        names.add(name)
        return script(*args)

    return call


def use_everything(queue: HotQueue) -> None:
    """Whatever HotQueue can do with a queue."""
    small = HotQueue(queue.name, url=queue_url(queue), max_length=4)
    small.enqueue("a", "b")
    with suppress(Full):
        small.enqueue("c", "d", "e")
    for terms in ({"delay": 0.001}, {"unique": "k}{"}, {"front": True}, {"expires": 0}):
        queue.send("bad" if "unique" in terms else "good", **terms)  # type: ignore[arg-type]

    rejection = Reject("as was asked for")

    def handle(message: str) -> None:
        if message == "bad":
            raise rejection
        if message == "b":
            raise ValueError

    queue.worker(retries=1, backoff=0.001)(handle).run(timeout=0.05)
    for delivery in queue.deliveries(timeout=0.01):
        delivery.ack()
    queue.stats()
    queue.pause(10)
    queue.resume()
    for dead in queue.dead:
        assert queue.dead.get(dead.id) is not None
        queue.dead.retry(dead)
    queue.enqueue(b"for somebody who pops it")
    queue.worker(delivery="at-most-once")(_fail).run(block=False)
    queue.dead.retry()
    queue.dead.drop()
    queue.clear()


def use_what_only_others_use(connection: Connection, name: str) -> None:
    """The protocol of a supervisor, and what the admin commands read."""
    one = "1" * 16
    queue_scripts.push(connection, name, 100, [b"x", b"y"])
    scripts.register(connection, name, one, 1, "{}")
    scripts.take(connection, name, one, 0, done=0, count=2, max_bytes=100)
    scripts.hand_back(connection, name, one, 1, keep=1)
    scripts.renew(connection, name, 1, [one, "2" * 16])
    wait_until(lambda: queue_scripts.lapsed(connection, name, 0))
    queue_scripts.held(connection, [keys.inflight(name, one)])
    queue_scripts.lengths(connection, [keys.inflight(name, one)])
    scripts.retire(connection, name, one, 1, done=1, fate="bury", frame=b"y, dead", sweep_ms=0)
    Upkeep(name, connection).tend()
    scripts.give_back(connection, name, b"popped")
    queue_scripts.dead_trim(connection, name, 0, None)
    queue_scripts.peek(connection, name, 1, 10)
    queue_scripts.allowed(connection, ["PING"])
    with suppress(Refused):  # like the directory of all queues: only one node has it
        queue_scripts.publish(connection, one, 600_000, {"status": "{}"})


def _fail(message: object) -> None:
    raise ValueError


def queue_url(queue: HotQueue) -> str:
    host_and_port = str(queue.address).partition("/")[0]
    return f"redis://{host_and_port}/0"


def test_every_script_keeps_to_the_slot_of_its_queue(cluster: Cluster, called: set[str]) -> None:
    for node, name in zip(cluster.nodes, cluster.queues, strict=True):
        called.clear()
        use_everything(HotQueue(name, url=node.url))
        connection = Connection(Address.from_url(node.url), CONSUMER_TIMEOUT_S)
        use_what_only_others_use(connection, name)
        connection.close()
        files = {path.stem for path in (Path(scripts.__file__).parent / "lua").glob("*.lua")}
        assert called == files
        # What is about all queues is written only by the node that happens to have it.
        slots = {key_slot(key) for key in node.admin.scan_iter() if not key.startswith(b"{hotqueue:}:")}
        assert slots == {key_slot(keys.key_for_name(name).encode())}


def test_a_watch_hears_of_queues_in_many_slots_of_its_node(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    slots = {name: key_slot(keys.key_for_name(name).encode()) for name in map(str, range(50))}
    near = [name for name in slots if slots[name] // SHARE == 0]
    assert len({slots[name] for name in near}) > 1
    with closing(Watch(Address.from_url(node.url))) as watch:
        assert watch.not_empty(near) == []
        for name in near:
            node.admin.rpush(keys.key_for_name(name), "x")
            assert wait_until(lambda: watch.not_empty(near)) == [name]
            node.admin.delete(keys.key_for_name(name))
        with pytest.raises(Refused, match="MOVED"):
            watch.not_empty([cluster.queues[1]])


def test_nothing_is_done_by_a_node_that_does_not_have_the_queue(cluster: Cluster) -> None:
    node, elsewhere = cluster.nodes[0], cluster.queues[1]
    queue = HotQueue(elsewhere, url=node.url)
    before = [set(each.admin.scan_iter()) for each in cluster.nodes]
    with pytest.raises(NotSent, match="MOVED"):
        queue.enqueue("a")
    with pytest.raises(Refused, match="MOVED"):
        queue.send("a", unique="k", delay=1)
    with pytest.raises(Refused, match="MOVED"):
        next(queue.deliveries())
    assert [set(each.admin.scan_iter()) for each in cluster.nodes] == before


def test_a_script_that_left_its_slot_would_be_refused(cluster: Cluster) -> None:
    """So the test above can fail."""
    node, name = cluster.nodes[0], cluster.queues[0]
    foreign = keys.key_for_name(cluster.queues[1])
    with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)crossslot|same slot"):
        node.admin.eval("return 1", 2, keys.key_for_name(name), foreign)
    with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)non local key"):
        node.admin.eval(f"return redis.call('LLEN', '{foreign}')", 1, keys.key_for_name(name))


def test_durable_without_a_disk_is_refused_in_a_cluster_too(cluster: Cluster) -> None:
    with pytest.raises(ConfigurationError, match="appendonly"):
        HotQueue(cluster.queues[0], url=cluster.nodes[0].url).send("a", durable=True)
