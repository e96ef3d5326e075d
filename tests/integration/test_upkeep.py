"""Leases and what vanished consumers held: released when they are truly gone, and never before."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hotqueue import OutcomeUnknown, identity, keys, scripts
from hotqueue.address import Address
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Unwatched
from hotqueue.upkeep import LAPSED_FOR_S, LEASE_MS, RENEW_EVERY_S, Upkeep
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until

Q = "q"
DAY_MS = 86_400_000
IN_ORDER = [b"a", b"b", b"c", b"d", b"e"]


class Scene:
    """Consumers of one queue, an observer with a clock of the test's own, and what Redis holds."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.admin = server.admin
        self.now_s = 1000.0
        self._stack = ExitStack()
        self.connection = self.connect()
        self.observer = Upkeep(Q, self.connection, clock=lambda: self.now_s)

    def connect(self) -> Connection:
        connection = Connection(Address.from_url(self.server.url), CONSUMER_TIMEOUT_S)
        self._stack.callback(connection.close)
        return connection

    def consumer(self, holding: int = 0) -> "Consuming":
        return Consuming(self, holding)

    def look(self, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.observer.take_over()

    def clock_jumps(self, by_ms: int) -> None:
        """As leases look to a server whose clock has jumped."""
        for name in self.admin.zrange(keys.consumers(Q), 0, -1):
            self.admin.zincrby(keys.consumers(Q), -by_ms, name)

    @property
    def waiting(self) -> list[bytes]:
        return self.admin.lrange(keys.key_for_name(Q), 0, -1)

    @property
    def registered(self) -> int:
        return int(self.admin.zcard(keys.consumers(Q)))

    def close(self) -> None:
        self._stack.close()


class Published(Unwatched):
    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        self.incarnation = incarnation


class Consuming:
    """A consumer that holds messages, lives in this process, and is renewed when the test says so."""

    def __init__(self, scene: Scene, holding: int) -> None:
        progress = Published()
        self.lane = AtLeastOnce(Q, scene.connect(), progress, prefetch=max(holding, 1))
        self.lane.open()
        if holding:
            assert self.lane.take(Q) is not None
        self.name = identity.text(progress.incarnation)
        self._scene = scene
        self._upkeep = Upkeep(Q, scene.connect())

    def renew(self) -> None:
        self._upkeep.renew([self.name])

    def lapse(self, ago_ms: int = 1) -> None:
        """As if nobody had renewed the lease for long enough."""
        self._scene.admin.zincrby(keys.consumers(Q), -LEASE_MS - ago_ms, self.name)

    def owned_by(self, owner: str) -> None:
        self._scene.admin.hset(keys.owners(Q), self.name, owner)


@pytest.fixture
def scene(any_server: LiveServer) -> Iterator[Scene]:
    scene = Scene(any_server)
    scene.admin.rpush(keys.key_for_name(Q), *IN_ORDER)
    yield scene
    scene.close()


def test_a_lapsed_lease_is_released_after_two_looks_far_enough_apart(scene: Scene) -> None:
    consumer = scene.consumer(holding=3)
    scene.look()
    consumer.lapse()
    scene.look(1000)
    scene.look(LAPSED_FOR_S - 0.01)
    assert scene.waiting == IN_ORDER[3:]
    scene.look(0.01)
    assert scene.waiting == IN_ORDER
    assert scene.registered == 0


def test_what_is_released_blames_nobody_and_is_taken_one_at_a_time(scene: Scene) -> None:
    consumer = scene.consumer(holding=3)
    consumer.lapse()
    scene.look()
    scene.look(LAPSED_FOR_S)
    other = scene.consumer(holding=5)
    held = scene.admin.lrange(keys.inflight(Q, other.name), 0, -1)
    assert held == [b"a"], "without a trail, and alone"


def test_the_late_word_of_who_was_taken_over_does_nothing(scene: Scene) -> None:
    consumer = scene.consumer(holding=1)
    consumer.lapse()
    scene.look()
    scene.look(LAPSED_FOR_S)
    number = scripts.take(scene.connect(), Q, consumer.name, 1, done=1, count=4, max_bytes=1 << 20)
    assert number is None
    assert scene.waiting == IN_ORDER


def test_what_comes_to_a_released_list_later_is_found_one_lease_later(scene: Scene) -> None:
    consumer = scene.consumer(holding=1)
    consumer.lapse()
    scene.look()
    scene.look(LAPSED_FOR_S)
    late = keys.inflight(Q, consumer.name)
    scene.admin.lmove(keys.key_for_name(Q), late, "LEFT", "RIGHT")
    scene.observer.tend()
    assert scene.waiting == IN_ORDER[1:]
    due_ms = scene.admin.zscore(keys.retired(Q), consumer.name)
    assert 0 < due_ms - scene.admin.time()[0] * 1000 <= LEASE_MS + 1000  # type: ignore[operator]
    scene.admin.zadd(keys.retired(Q), {consumer.name: 1})
    scene.observer.tend()
    assert scene.waiting == IN_ORDER
    assert scene.admin.zcard(keys.retired(Q)) == 0


def test_a_renewal_between_the_looks_makes_it_begin_afresh(scene: Scene) -> None:
    consumer = scene.consumer(holding=1)
    consumer.lapse()
    scene.look()
    consumer.renew()
    scene.look(30)
    consumer.lapse()
    scene.look(30)
    scene.look(LAPSED_FOR_S - 1)
    assert scene.waiting == IN_ORDER[1:]
    scene.look(1)
    assert scene.waiting == IN_ORDER


def test_a_renewal_that_nobody_saw_between_the_looks_makes_it_begin_afresh_too(scene: Scene) -> None:
    """The observer stood still for more than a lease, in which it was renewed and ran out again."""
    consumer = scene.consumer(holding=1)
    consumer.lapse(ago_ms=60_000)
    scene.look()
    consumer.renew()
    consumer.lapse()
    scene.look(LAPSED_FOR_S + 60)
    assert scene.waiting == IN_ORDER[1:]
    scene.look(LAPSED_FOR_S)
    assert scene.waiting == IN_ORDER


def _hangs_up(scene: Scene) -> None:
    scene.admin.client_kill_filter(_id=str(scene.connection.client_id()))


def _is_lost_in_a_call(scene: Scene) -> None:
    _hangs_up(scene)
    with pytest.raises(OutcomeUnknown):
        scene.connection.call("PING")


def _is_lost_and_noticed_by_another_chore(scene: Scene) -> None:
    _is_lost_in_a_call(scene)
    Upkeep("other", scene.connection).tend()


@pytest.mark.parametrize("lose", [_hangs_up, _is_lost_in_a_call, _is_lost_and_noticed_by_another_chore])
def test_a_lost_connection_between_the_looks_makes_it_begin_afresh(
    scene: Scene, lose: Callable[[Scene], None]
) -> None:
    consumer = scene.consumer(holding=1)
    consumer.lapse()
    scene.look()
    lose(scene)
    scene.look(LAPSED_FOR_S)
    assert scene.waiting == IN_ORDER[1:]
    scene.look(LAPSED_FOR_S)
    assert scene.waiting == IN_ORDER


def test_a_clock_of_the_server_that_jumps_ahead_releases_nobody_who_lives(scene: Scene) -> None:
    living, dead = scene.consumer(holding=1), scene.consumer(holding=1)
    living.renew()
    scene.look()
    scene.clock_jumps(by_ms=DAY_MS)
    for _ in range(int(LAPSED_FOR_S / RENEW_EVERY_S) + 2):
        scene.look(RENEW_EVERY_S)
        living.renew()
    assert scene.waiting == IN_ORDER[1:]
    assert scene.admin.zrange(keys.consumers(Q), 0, -1) == [living.name.encode()]
    assert dead.name != living.name


def test_a_clock_of_the_server_that_jumps_back_does_not_hold_up_what_the_dead_held(scene: Scene) -> None:
    living, _dead = scene.consumer(holding=1), scene.consumer(holding=1)
    scene.look()
    scene.clock_jumps(by_ms=-DAY_MS)
    for _ in range(int(LAPSED_FOR_S / RENEW_EVERY_S) + 2):
        scene.look(RENEW_EVERY_S)
        living.renew()
    assert scene.waiting == IN_ORDER[1:]
    assert scene.admin.zrange(keys.consumers(Q), 0, -1) == [living.name.encode()]


def test_many_lapsed_leases_are_released_in_several_looks(scene: Scene) -> None:
    names = [identity.text(number) for number in range(1, 251)]
    scene.admin.zadd(keys.consumers(Q), dict.fromkeys(names, 1))
    for name in names:
        scene.admin.rpush(keys.inflight(Q, name), name)
    for _ in range(6):
        scene.look(LAPSED_FOR_S)
    assert scene.registered == 0
    assert set(scene.waiting) == {*IN_ORDER, *map(str.encode, names)}


def gone_owner() -> str:
    """What a process said of itself that has ended since."""
    said = "from hotqueue import identity; print(identity.owner())"
    return subprocess.check_output([sys.executable, "-c", said], text=True).strip()


def test_of_a_neighbour_that_is_gone_one_look_is_enough(scene: Scene) -> None:
    consumer = scene.consumer(holding=2)
    consumer.owned_by(gone_owner())
    scene.observer.take_over_neighbours()
    assert scene.waiting == IN_ORDER
    assert scene.registered == 0


def test_of_a_neighbour_that_is_gone_a_lapsed_lease_is_enough(scene: Scene) -> None:
    consumer = scene.consumer(holding=2)
    consumer.owned_by(gone_owner())
    scene.look()
    assert scene.waiting == IN_ORDER[2:]
    consumer.lapse()
    scene.look()
    assert scene.waiting == IN_ORDER


def changed(owner: str, **fields: Any) -> str:
    return json.dumps(json.loads(owner) | fields)


def test_who_lives_or_may_live_is_never_released_at_once(scene: Scene) -> None:
    gone, own = gone_owner(), identity.owner()
    me = {"pid": os.getpid(), "started": json.loads(own)["started"]}
    owners = [
        own,
        changed(gone, watcher=me),  # its supervisor is about to give back what it held
        changed(gone, boot="another"),
        changed(gone, pidns="pid:[1]"),
        changed(gone, boot=""),
        changed(gone, pid="?"),
        changed(gone, pid=2**80),
        "not JSON",
        "[]",
        "{}",
    ]
    scene.admin.rpush(keys.key_for_name(Q), *map(str, range(len(owners))))
    before = scene.waiting
    for owner in owners:
        scene.consumer(holding=1).owned_by(owner)
    scene.observer.take_over_neighbours()
    assert scene.waiting == before[len(owners) :]
    assert scene.registered == len(owners)


def test_one_without_an_owner_is_left_to_its_lease(scene: Scene) -> None:
    consumer = scene.consumer(holding=1)
    scene.admin.hdel(keys.owners(Q), consumer.name)
    scene.observer.take_over_neighbours()
    consumer.lapse()
    scene.look()
    assert scene.waiting == IN_ORDER[1:]


def test_on_a_full_server_leases_are_renewed_and_what_vanished_is_released(scene: Scene) -> None:
    living, dead = scene.consumer(holding=1), scene.consumer(holding=2)
    dead.lapse()
    before = scene.admin.zscore(keys.consumers(Q), living.name)
    scene.admin.config_set("maxmemory", 1)
    try:
        wait_until(lambda: living.renew() or scene.admin.zscore(keys.consumers(Q), living.name) > before)
        scene.look()
        scene.look(LAPSED_FOR_S)
    finally:
        scene.admin.config_set("maxmemory", 0)
    assert scene.waiting == IN_ORDER[1:]


def test_a_lease_that_was_given_back_is_not_renewed_into_life(scene: Scene) -> None:
    consumer = scene.consumer(holding=1)
    scripts.retire(scene.connect(), Q, consumer.name, scripts.NO_CLAIM)
    consumer.renew()
    assert scene.registered == 0
