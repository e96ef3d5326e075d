"""Each Lua file does what its head says, and nothing for whom it does not know."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from hotqueue import OutcomeUnknown, keys, queue_scripts, scripts
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import Refused
from tests.support.servers import LiveServer

Q = "q"
WAITING = keys.key_for_name(Q)
ONE, TWO = "00000000000000a1", "00000000000000a2"
MINUTE_MS = 60_000
MIB = 1 << 20


@pytest.fixture
def client(any_server: LiveServer) -> redis.Redis:
    return any_server.admin


@pytest.fixture
def connection(any_server: LiveServer) -> Iterator[Connection]:
    connection = Connection(Address.from_url(any_server.url), CONSUMER_TIMEOUT_S)
    yield connection
    connection.close()


@pytest.fixture
def full(client: redis.Redis) -> Iterator[None]:
    """The server refuses whatever needs memory."""
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.rpush("anything", "x")
    yield
    client.config_set("maxmemory", 0)


def register(connection: Connection, incarnation: str = ONE) -> None:
    scripts.register(connection, Q, incarnation, MINUTE_MS, '{"pid":1}')


def take(connection: Connection, claim: int, *, done: int = 0, count: int = 1, max_bytes: int = MIB) -> Any:
    return scripts.take(connection, Q, ONE, claim, done=done, count=count, max_bytes=max_bytes)


def in_flight(client: redis.Redis, incarnation: str = ONE) -> list[bytes]:
    return client.lrange(keys.inflight(Q, incarnation), 0, -1)


def waiting(client: redis.Redis) -> list[bytes]:
    return client.lrange(WAITING, 0, -1)


def dead(client: redis.Redis) -> list[bytes]:
    return client.zrange(keys.dead(Q), 0, -1)


def server_ms(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return int(seconds * 1000 + microseconds // 1000)


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """All that the server holds, but for the counters."""
    read = {
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"hash": client.hgetall,
        b"set": client.smembers,
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter() if not key.endswith(b":counters")}


def test_register_enters_the_incarnation_with_its_lease_its_first_claim_and_its_owner(
    connection: Connection, client: redis.Redis
) -> None:
    before_ms = server_ms(client)
    register(connection)
    lease_end = client.zscore(keys.consumers(Q), ONE)
    assert before_ms + MINUTE_MS <= lease_end <= server_ms(client) + MINUTE_MS
    assert client.hgetall(keys.claims(Q)) == {ONE.encode(): b"0"}
    assert json.loads(client.hget(keys.owners(Q), ONE)) == {"pid": 1}


def test_a_register_that_comes_after_the_retirement_does_nothing(
    connection: Connection, client: redis.Redis
) -> None:
    scripts.retire(connection, Q, ONE, 0, sweep_ms=MINUTE_MS)
    before = everything(client)
    register(connection)
    assert everything(client) == before


def test_take_moves_frames_from_the_head_and_acknowledges_what_is_done(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    client.rpush(WAITING, *"abcde")
    assert take(connection, 0, count=2) == [1, b"a", b"b"]
    assert in_flight(client) == [b"a", b"b"]
    assert take(connection, 1, done=2, count=2) == [2, b"c", b"d"]
    assert in_flight(client) == [b"c", b"d"]
    assert take(connection, 2, done=1) == [3, b"e"]
    assert in_flight(client) == [b"d", b"e"]
    assert take(connection, 3, done=2) == [4]
    assert in_flight(client) == waiting(client) == []
    assert client.hget(keys.claims(Q), ONE) == b"4"


def test_take_of_none_only_acknowledges(connection: Connection, client: redis.Redis) -> None:
    register(connection)
    client.rpush(WAITING, "a", "b")
    take(connection, 0)
    assert take(connection, 1, done=1, count=0) == [2]
    assert (in_flight(client), waiting(client)) == ([], [b"b"])


def test_take_is_bounded_by_bytes_but_takes_at_least_one(connection: Connection, client: redis.Redis) -> None:
    register(connection)
    client.rpush(WAITING, *(bytes(600) for _ in range(5)))
    assert len(take(connection, 0, count=5, max_bytes=1000)) - 1 == 2
    assert len(take(connection, 1, done=2, count=5, max_bytes=1)) - 1 == 1
    assert len(waiting(client)) == 2


@pytest.mark.parametrize("claim", [0, 2, 3, -1])
def test_with_another_claim_number_take_and_bury_change_nothing(
    connection: Connection, client: redis.Redis, claim: int
) -> None:
    register(connection)
    client.rpush(WAITING, "a", "b", "c")
    take(connection, 0, count=2)  # 1 is the latest now
    before = everything(client)
    assert take(connection, claim, done=1) is None
    assert scripts.bury(connection, Q, ONE, claim, done=0, frame=b"dead") is None
    assert everything(client) == before


@pytest.mark.parametrize("sweep_ms", [None, MINUTE_MS])
def test_for_a_retired_incarnation_take_bury_and_renew_change_nothing(
    connection: Connection, client: redis.Redis, sweep_ms: int | None
) -> None:
    register(connection)
    client.rpush(WAITING, "a", "b")
    take(connection, 0)
    scripts.retire(connection, Q, ONE, 1, sweep_ms=sweep_ms)
    before = everything(client)
    for claim in (0, 1, 2, -1):
        assert take(connection, claim) is None
        assert scripts.bury(connection, Q, ONE, claim, done=0, frame=b"dead") is None
    assert scripts.renew(connection, Q, MINUTE_MS, [ONE]) == [ONE]
    assert everything(client) == before


def test_bury_acknowledges_what_is_done_and_puts_the_frame_after_it_in_the_dead_list(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    client.rpush(WAITING, *"abcd")
    take(connection, 0, count=4)
    before_ms = server_ms(client)
    assert scripts.bury(connection, Q, ONE, 1, done=2, frame=b"c, and why") == 2
    assert in_flight(client) == [b"d"]
    ((frame, buried_ms),) = client.zrange(keys.dead(Q), 0, -1, withscores=True)
    assert frame == b"c, and why"
    assert before_ms <= buried_ms < server_ms(client) + 1
    assert take(connection, 2, done=1) == [3]


def test_what_was_popped_is_buried_once_however_often_it_is_said(
    connection: Connection, client: redis.Redis
) -> None:
    for _ in range(3):
        scripts.bury_popped(connection, Q, b"frame")
    assert dead(client) == [b"frame"]


def test_what_was_popped_is_given_back_to_the_head(connection: Connection, client: redis.Redis) -> None:
    client.rpush(WAITING, "b")
    scripts.give_back(connection, Q, b"a")
    assert waiting(client) == [b"a", b"b"]


def test_renew_moves_the_lease_of_the_registered_and_names_the_others(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    register(connection, TWO)
    before_ms = server_ms(client)
    assert scripts.renew(connection, Q, 2 * MINUTE_MS, ["never", ONE, "nor this"]) == ["never", "nor this"]
    assert client.zscore(keys.consumers(Q), ONE) >= before_ms + 2 * MINUTE_MS
    assert client.zscore(keys.consumers(Q), TWO) < before_ms + 2 * MINUTE_MS
    assert client.zcard(keys.consumers(Q)) == 2


def test_retire_acknowledges_what_is_done_and_releases_the_rest_in_order_before_what_waits(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    client.rpush(WAITING, *"abcdef")
    take(connection, 0, count=4)
    assert scripts.retire(connection, Q, ONE, 1, done=1) == scripts.Retired(believed=True, released=3)
    assert waiting(client) == [b"b", b"c", b"d", b"e", b"f"]
    assert list(everything(client)) == [WAITING.encode()]


def test_retire_can_replace_the_frame_that_ran(connection: Connection, client: redis.Redis) -> None:
    register(connection)
    client.rpush(WAITING, *"abc")
    take(connection, 0, count=3)
    scripts.retire(connection, Q, ONE, 1, done=1, fate="replace", frame=b"b, which crashed once")
    assert waiting(client) == [b"b, which crashed once", b"c"]


def test_retire_can_bury_the_frame_that_ran(connection: Connection, client: redis.Redis) -> None:
    register(connection)
    client.rpush(WAITING, *"abc")
    take(connection, 0, count=3)
    assert scripts.retire(connection, Q, ONE, 1, done=1, fate="bury", frame=b"b, and why").released == 1
    assert (waiting(client), dead(client)) == ([b"c"], [b"b, and why"])


@pytest.mark.parametrize("fate", ["replace", "bury"])
def test_retire_gives_no_fate_to_a_frame_that_is_not_there(
    connection: Connection, client: redis.Redis, fate: Any
) -> None:
    register(connection)
    client.rpush(WAITING, "a")
    take(connection, 0)
    scripts.retire(connection, Q, ONE, 1, done=1, fate=fate, frame=b"a ghost")
    assert everything(client) == {}


@pytest.mark.parametrize("claim", [0, 2, -1])
@pytest.mark.parametrize("fate", ["release", "replace", "bury"])
def test_retire_does_not_believe_what_is_said_of_another_claim_and_releases_all(
    connection: Connection, client: redis.Redis, claim: int, fate: Any
) -> None:
    register(connection)
    client.rpush(WAITING, *"abc")
    take(connection, 0, count=2)
    retired = scripts.retire(connection, Q, ONE, claim, done=2, fate=fate, frame=b"wrong")
    assert retired == scripts.Retired(believed=False, released=2)
    assert everything(client) == {WAITING.encode(): [b"a", b"b", b"c"]}


def test_to_retire_again_changes_nothing(connection: Connection, client: redis.Redis) -> None:
    register(connection)
    client.rpush(WAITING, *"abc")
    take(connection, 0, count=3)
    scripts.retire(connection, Q, ONE, 1, done=1, fate="bury", frame=b"b")
    before = everything(client)
    again = scripts.retire(connection, Q, ONE, 1, done=1, fate="bury", frame=b"b")
    assert again == scripts.Retired(believed=False, released=0)
    assert everything(client) == before


def test_one_call_of_retire_releases_500_frames_at_most_and_the_order_holds_over_all_calls(
    connection: Connection, client: redis.Redis, any_server: LiveServer
) -> None:
    register(connection)
    frames = [b"%d" % number for number in range(1200)]
    client.rpush(WAITING, *frames)
    take(connection, 0, count=1200)
    client.rpush(WAITING, "last")
    client.config_resetstat()
    assert scripts.retire(connection, Q, ONE, 1).released == 1200
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
    assert waiting(client) == [*frames, b"last"]


@pytest.mark.parametrize(("claim", "careful"), [(1, None), (0, b"1200")], ids=["believed", "not believed"])
def test_only_what_is_retired_without_being_believed_is_to_be_taken_one_at_a_time(
    connection: Connection, client: redis.Redis, claim: int, careful: bytes | None
) -> None:
    register(connection)
    client.rpush(WAITING, *range(1200))
    take(connection, 0, count=1200)
    assert scripts.retire(connection, Q, ONE, claim) == scripts.Retired(claim == 1, 1200)
    assert client.hget(keys.counters(Q), "careful") == careful


def test_two_of_which_one_call_releases_only_one_are_both_to_be_taken_one_at_a_time(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    client.rpush(WAITING, b"small", b"x" * 2 * MIB)
    take(connection, 0, count=2)
    assert scripts.retire(connection, Q, ONE, 0).released == 2
    assert client.hget(keys.counters(Q), "careful") == b"2"


def test_one_call_of_retire_releases_a_mebibyte_at_most_and_one_frame_more(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    frames = [b"%d" % number * 600_000 for number in range(5)]
    client.rpush(WAITING, *frames)
    take(connection, 0, count=5, max_bytes=100 * MIB)
    client.config_resetstat()
    assert scripts.retire(connection, Q, ONE, 1).released == 5
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
    assert waiting(client) == frames


def test_what_a_broken_off_retire_has_left_is_swept_at_once(
    connection: Connection, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(connection)
    client.rpush(WAITING, *"abcde")
    take(connection, 0, count=5)
    monkeypatch.setattr(scripts, "RELEASE_FRAMES", 2)
    calls = iter([scripts._retire])

    def broken_off(*args: Any) -> Any:
        return next(calls)(*args)

    with monkeypatch.context() as patch:
        patch.setattr(scripts, "_retire", broken_off)
        with pytest.raises(StopIteration):
            scripts.retire(connection, Q, ONE, 1)
    assert waiting(client) == [b"d", b"e"]
    assert sweep(connection) == 3
    assert everything(client) == {WAITING.encode(): [b"a", b"b", b"c", b"d", b"e"]}


def sweep(connection: Connection) -> int:
    """As the upkeep of a queue does; return how many frames went back."""
    due = queue_scripts.tend(connection, Q).sweeps
    return sum(scripts.retire(connection, Q, name, scripts.NO_CLAIM).released for name in due)


def test_the_list_of_a_retired_incarnation_is_swept_when_it_is_due_and_not_before(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    client.rpush(WAITING, *"abc")
    take(connection, 0)
    scripts.retire(connection, Q, ONE, 1, sweep_ms=MINUTE_MS)
    due_ms = client.zscore(keys.retired(Q), ONE)
    assert server_ms(client) < due_ms <= server_ms(client) + MINUTE_MS
    client.blmove(WAITING, keys.inflight(Q, ONE), 0.1, "LEFT", "RIGHT")  # comes late, and cannot be fenced
    assert sweep(connection) == 0
    assert in_flight(client) == [b"a"]
    client.zadd(keys.retired(Q), {ONE: 0})
    assert sweep(connection) == 1
    assert everything(client) == {WAITING.encode(): [b"a", b"b", b"c"]}


def test_one_sweep_looks_at_16_lists_at_most(connection: Connection, client: redis.Redis) -> None:
    for number in range(40):
        client.zadd(keys.retired(Q), {f"{number:016x}": number})
        client.rpush(keys.inflight(Q, f"{number:016x}"), number)
    assert [sweep(connection) for _ in range(4)] == [16, 16, 8, 0]
    assert client.zcard(keys.retired(Q)) == 0
    assert client.llen(WAITING) == 40


@pytest.mark.usefixtures("full")
def test_on_a_full_server_a_consumer_can_register_take_bury_renew_and_retire(
    connection: Connection, client: redis.Redis
) -> None:
    client.config_set("maxmemory", 0)
    client.rpush(WAITING, *"abcdef")
    client.config_set("maxmemory", 1)
    register(connection)
    assert take(connection, 0, count=3) == [1, b"a", b"b", b"c"]
    assert scripts.bury(connection, Q, ONE, 1, done=1, frame=b"b") == 2
    assert scripts.renew(connection, Q, MINUTE_MS, [ONE]) == []
    assert take(connection, 2, done=1, count=2) == [3, b"d", b"e"]
    retired = scripts.retire(connection, Q, ONE, 3, fate="bury", frame=b"d", sweep_ms=MINUTE_MS)
    assert retired == scripts.Retired(believed=True, released=1)
    assert waiting(client) == [b"e", b"f"]
    assert sorted(dead(client)) == [b"b", b"d"]


@pytest.mark.usefixtures("full")
def test_on_a_full_server_what_waits_behind_a_slow_message_goes_back(
    connection: Connection, client: redis.Redis
) -> None:
    client.config_set("maxmemory", 0)
    client.rpush(WAITING, *"abcd")
    register(connection)
    take(connection, 0, count=3)
    client.config_set("maxmemory", 1)
    assert scripts.hand_back(connection, Q, ONE, 1, keep=1) == 2
    assert waiting(client) == [b"b", b"c", b"d"]


@pytest.mark.parametrize("keep", range(5))
def test_hand_back_leaves_the_first_of_a_claim_and_releases_the_rest_in_order_once(
    connection: Connection, client: redis.Redis, keep: int
) -> None:
    client.rpush(WAITING, *"abcd")
    register(connection)
    take(connection, 0, count=3)
    released = max(0, 3 - keep)
    assert scripts.hand_back(connection, Q, ONE, 1, keep=keep) == released
    assert scripts.hand_back(connection, Q, ONE, 1, keep=keep) == 0
    assert waiting(client) == [b"a", b"b", b"c", b"d"][3 - released :]
    assert take(connection, 1, done=keep) == [2, [b"a", b"b", b"c", b"d"][3 - released]]


@pytest.mark.parametrize("claim", [0, 2])
def test_hand_back_of_another_claim_or_of_a_retired_incarnation_does_nothing(
    connection: Connection, client: redis.Redis, claim: int
) -> None:
    client.rpush(WAITING, *"abcd")
    register(connection)
    take(connection, 0, count=3)
    before = everything(client)
    assert scripts.hand_back(connection, Q, ONE, claim, keep=0) == 0
    assert scripts.hand_back(connection, Q, TWO, 1, keep=0) == 0
    assert everything(client) == before


@pytest.mark.usefixtures("full")
def test_on_a_full_server_crashes_are_noted_and_lists_swept(
    connection: Connection, client: redis.Redis
) -> None:
    client.config_set("maxmemory", 0)
    register(connection)
    client.rpush(WAITING, "a")
    take(connection, 0)
    client.rpush(keys.inflight(Q, TWO), "late")
    client.zadd(keys.retired(Q), {TWO: 0})
    client.config_set("maxmemory", 1)
    assert sweep(connection) == 1
    scripts.retire(connection, Q, ONE, 1, fate="replace", frame=b"a, which crashed once")
    assert waiting(client) == [b"a, which crashed once", b"late"]


@pytest.mark.usefixtures("full")
def test_on_a_full_server_what_was_popped_can_be_buried_and_given_back(
    connection: Connection, client: redis.Redis
) -> None:
    scripts.bury_popped(connection, Q, b"bad")
    scripts.give_back(connection, Q, b"good")
    assert (dead(client), waiting(client)) == ([b"bad"], [b"good"])


def test_a_server_that_forgets_its_scripts_is_told_them_again(
    connection: Connection, client: redis.Redis
) -> None:
    client.rpush(WAITING, *"abc")
    for act in (
        lambda: register(connection),
        lambda: take(connection, 0, count=2),
        lambda: scripts.bury(connection, Q, ONE, 1, done=0, frame=b"a"),
        lambda: scripts.renew(connection, Q, MINUTE_MS, [ONE]),
        lambda: scripts.retire(connection, Q, ONE, 2, sweep_ms=0),
        lambda: sweep(connection),
        lambda: scripts.bury_popped(connection, Q, b"x"),
        lambda: scripts.give_back(connection, Q, b"y"),
    ):
        client.script_flush()
        act()
    assert waiting(client) == [b"y", b"b", b"c"]
    assert sorted(dead(client)) == [b"a", b"x"]


def test_of_a_script_that_fails_inside_the_outcome_is_unknown(
    connection: Connection, client: redis.Redis
) -> None:
    register(connection)
    client.set(WAITING, "no list")
    with pytest.raises(OutcomeUnknown, match="WRONGTYPE"):
        take(connection, 0)
    assert client.hget(keys.claims(Q), ONE) == b"1"  # a part was done


@pytest.mark.parametrize(
    ("denied", "unknown"),
    [(["-evalsha"], False), (["-lmove"], True)],
)
def test_a_script_that_an_acl_forbids_is_refused_and_one_that_meets_it_inside_is_unknown(
    any_server: LiveServer, client: redis.Redis, denied: list[str], *, unknown: bool
) -> None:
    register(connection := Connection(Address.from_url(any_server.url), CONSUMER_TIMEOUT_S))
    client.rpush(WAITING, "a")
    client.acl_setuser("limited", enabled=True, nopass=True, keys=["*"], commands=["+@all", *denied])
    connection.call("AUTH", "limited", "any")
    try:
        with pytest.raises(OutcomeUnknown if unknown else Refused):
            take(connection, 0)
    finally:
        client.acl_deluser("limited")
        connection.close()
    assert waiting(client) == [b"a"]
