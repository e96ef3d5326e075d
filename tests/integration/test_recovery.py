"""What the supervisor's keeper does for a dead child: its connection is ended, what comes late is found."""

from collections.abc import Iterator

import pytest

from hotqueue import identity, keys, scripts
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.envelope import trail_of
from hotqueue.frame import pack
from hotqueue.upkeep import LEASE_MS, Upkeep
from hotqueue.worker.layout import NO_CLAIM
from hotqueue.worker.reading import Place
from hotqueue.worker.recovery import Left, Served, recover
from tests.support.servers import LiveServer

Q = "q"
ONE = 1


@pytest.fixture
def connection(any_server: LiveServer) -> Iterator[Connection]:
    connection = Connection(Address.from_url(any_server.url), CONSUMER_TIMEOUT_S)
    yield connection
    connection.close()


def bury_the_child(connection: Connection, of_child: Connection, seen_as: str) -> None:
    give_back(connection, Place(Q, ONE, of_child.client_id(), NO_CLAIM, 0, 0, seen_as=seen_as))


def give_back(connection: Connection, place: Place) -> None:
    served = Served(Q, "handle", "tasks.py:1", "at-least-once", connection.address)
    recover(connection, served, Left(1, place, crashed=True, cause="SIGKILL"), max_crashes=3)


def test_the_connection_of_a_dead_child_is_ended(connection: Connection, any_server: LiveServer) -> None:
    of_child = Connection(connection.address, CONSUMER_TIMEOUT_S)
    number = of_child.client_id()
    bury_the_child(connection, of_child, of_child.seen_as)
    assert number not in {int(client["id"]) for client in any_server.admin.client_list()}
    of_child.close()


def test_who_has_got_the_number_of_a_dead_child_from_a_restarted_server_is_left_alone(
    connection: Connection, any_server: LiveServer
) -> None:
    innocent = Connection(connection.address, CONSUMER_TIMEOUT_S)
    bury_the_child(connection, innocent, "127.0.0.1:1")
    bury_the_child(connection, innocent, "")
    assert innocent.call("PING") == b"PONG"
    assert innocent.times_connected == 1
    innocent.close()


def test_what_a_command_of_a_dead_child_brings_too_late_is_found_one_lease_later(
    connection: Connection, any_server: LiveServer
) -> None:
    """Where an ACL forbids to end its connection, or the command was in the server's hands already."""
    name = identity.text(ONE)
    scripts.register(connection, Q, name, LEASE_MS, identity.owner())
    give_back(connection, Place(Q, ONE, 0, 0, 0, 0))
    any_server.admin.rpush(keys.inflight(Q, name), "late")
    any_server.admin.zadd(keys.retired(Q), {name: 0}, xx=True)
    Upkeep(Q, connection).tend()
    assert any_server.admin.lrange(keys.key_for_name(Q), 0, -1) == [b"late"]
    assert any_server.admin.exists(keys.retired(Q)) == 0


def test_a_connection_knows_how_the_server_sees_it(connection: Connection, any_server: LiveServer) -> None:
    number = connection.client_id()
    assert connection.seen_as
    assert {str(number): connection.seen_as}.items() <= {
        each["id"]: each["addr"] for each in any_server.admin.client_list()
    }.items()


def left_by(connection: Connection, raw: bytes, **why: bool) -> bytes:
    """What waits after a child has died that ran this."""
    life = identity.new_incarnation()
    scripts.register(connection, Q, identity.text(life), LEASE_MS, identity.owner())
    connection.call("RPUSH", keys.key_for_name(Q), raw)
    limits = {"done": 0, "count": 1, "max_bytes": 1 << 20}
    assert scripts.take(connection, Q, identity.text(life), 0, **limits) == [1, raw]
    place = Place(Q, life, 0, claim=1, started=1, finished=0, size=1)
    served = Served(Q, "handle", "tasks.py:1", "at-least-once", connection.address)
    recover(connection, served, Left(1, place, cause="SIGKILL", **{"crashed": False, **why}), max_crashes=3)
    return bytes(connection.call("LPOP", keys.key_for_name(Q)))


@pytest.mark.parametrize("raw", [b"bare", pack(b"framed", 1)], ids=["bare", "framed"])
def test_one_of_several_that_ran_in_a_crash_is_noted_as_a_suspect_and_none_is_counted(
    connection: Connection, raw: bytes
) -> None:
    first = left_by(connection, raw, suspected=True)
    trail = trail_of(first)
    assert (trail.suspect, trail.crashes, trail.attempt) == (True, (), 2)
    second = trail_of(left_by(connection, first, crashed=True))
    assert (second.suspect, len(second.crashes), second.attempt) == (True, 1, 3)
    third = trail_of(left_by(connection, first))
    assert (third.suspect, third.crashes, third.interruptions) == (True, (), 2)
