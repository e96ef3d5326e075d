"""Whatever is done with a queue, and whatever befalls its consumers: each message is in exactly one place."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from hotqueue import HotQueue, keys
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.upkeep import Upkeep
from tests.support.faulty import Kind
from tests.support.model_account import Account
from tests.support.model_actor import Actor, Verdict
from tests.support.model_places import Places, body_of
from tests.support.servers import LiveServer

Q = "q"
UNIQUE_FOR_S = 200.0
LEASE_AND_MORE_S = 70.0
ROUNDS = 6  # of more than a lease each: together longer than any delay, and enough to look twice and sweep

places_of_actors = st.integers(0, 1)
verdicts = st.sampled_from(["well", "well", "badly", "now again", "later again", "rejected"])
# What happens to a command, and to which from the next on: a wait is the second of `take`.
mishaps = st.tuples(st.sampled_from(["not sent", "request lost", "reply lost", "late"]), st.integers(0, 1))
faults = st.none() | mishaps
terms = st.sampled_from(
    [
        {},
        {"delay": 0.0},
        {"delay": 100.0},
        {"front": True},
        {"expires": 0.001},
        {"unique": "a", "unique_for": UNIQUE_FOR_S},
        {"unique": "a", "unique_for": UNIQUE_FOR_S, "delay": 20.0},
    ]
)


class OnePlace(RuleBasedStateMachine):
    """Producers, two consumers of which one claims three at once, and an observer with a clock of its own.

    No rule has a precondition: what expires depends on the real clock, and the choice of steps must not.
    """

    server: LiveServer
    gone_owner: str

    @initialize()
    def begin(self) -> None:
        self.server.admin.flushall()
        self.now_s = 1000.0
        self.queue = HotQueue(Q, "json", url=self.server.url)
        self.bare = HotQueue(Q, "json", url=self.server.url, envelope=False)
        self.places = Places(self.server.admin, Q)
        self.connection = Connection(self.queue.address, CONSUMER_TIMEOUT_S)
        self.observer = Upkeep(Q, self.connection, clock=lambda: self.now_s)
        self.actors = [self.new_actor(0), self.new_actor(1)]
        self.departed: list[Actor] = []
        self.ids: set[str] = set()
        self.account = Account(self.places)
        self.enqueue(3, framed=True)

    def new_actor(self, place: int) -> Actor:
        return Actor(self.queue, prefetch=(1, 3)[place], clock=lambda: self.now_s)

    @contextlib.contextmanager
    def taking_over(self) -> Iterator[None]:
        held = self.account.held_though_done()
        yield
        self.account.taken_over(held)

    # Producers.

    def enqueue(self, count: int, *, framed: bool) -> None:
        (self.queue if framed else self.bare).enqueue(*(self.account.new_message() for _ in range(count)))

    @rule(terms=terms)
    def send(self, terms: dict[str, Any]) -> None:
        if not terms:
            self.enqueue(3, framed=False)
            return
        message = self.account.new_message()
        if "expires" in terms:
            self.account.troubled.add(b"%d" % message)
        found = self.queue.send(message, **terms)
        if found in self.ids:
            self.account.accepted.remove(b"%d" % message)
        self.ids.add(found)

    # Consumers.

    @rule(which=places_of_actors, fault=faults)
    def take(self, which: int, fault: tuple[Kind, int] | None) -> None:
        with self.actors[which].mishap(fault):
            self.actors[which].take(wait=True)

    @rule(which=places_of_actors, runs=st.lists(st.tuples(verdicts, faults), min_size=1, max_size=5))
    def work(self, which: int, runs: list[tuple[Verdict, tuple[Kind, int] | None]]) -> None:
        actor = self.actors[which]
        for verdict, fault in runs:
            with actor.mishap(fault):
                if not actor.hand:
                    actor.take(wait=False)
                if actor.hand:
                    self.run(actor, verdict)
            self.everything_is_in_its_place()

    def run(self, actor: Actor, verdict: Verdict, meanwhile: Callable[[], None] = lambda: None) -> None:
        body = body_of(actor.hand.raw)  # type: ignore[union-attr]
        if verdict != "well":
            self.account.troubled.add(body)
        if actor.run(verdict, meanwhile) == "done":
            self.account.acked.add(body)

    @rule(which=places_of_actors, closes=st.booleans(), fault=faults)
    def leave(self, which: int, fault: tuple[Kind, int] | None, *, closes: bool) -> None:
        actor = self.actors[which]
        with actor.mishap(fault):
            actor.close() if closes else actor.give_back()

    @rule(settled_by=st.lists(st.sampled_from(["ack", "retry", "reject", "nothing"]), min_size=1, max_size=3))
    def somebody_else_consumes(self, settled_by: list[str]) -> None:
        """At most once, or in a loop that looks after leases as well."""
        if settled_by == ["nothing"]:
            message = self.bare.dequeue()
            self.account.acked |= set() if message is None else {b"%d" % message}
            return
        with self.taking_over():
            deliveries = self.queue.deliveries(timeout=0.02)
            for delivery, way in zip(islice(deliveries, len(settled_by)), settled_by, strict=False):
                body = b"%d" % delivery.message
                if way == "nothing":
                    break
                if way == "ack":
                    delivery.ack()
                    self.account.acked.add(body)
                    continue
                self.account.troubled.add(body)
                delivery.retry(30) if way == "retry" else delivery.reject("why")
            deliveries.close()  # type: ignore[attr-defined]

    @rule(
        which=places_of_actors,
        done=st.integers(0, 2),
        way=st.sampled_from(["crash", "interruption", "vanished", "neighbour"]),
    )
    def die(self, which: int, done: int, way: str) -> None:
        """While it runs the one after some that it has done; seen by its supervisor, or by nobody."""
        actor = self.actors[which]
        self.enqueue(done, framed=True)
        for _ in range(done):
            self.work(which, [("well", None)])
        with actor.mishap(None):
            if done and not actor.hand:
                actor.take(wait=False)
        self.actors[which] = self.new_actor(which)
        self.departed.append(actor)
        if actor.hand:
            actor.begin()
        actor.connection.close()
        if way in {"crash", "interruption"}:
            if way == "crash" and actor.suspect:
                self.account.crashed.add(actor.suspect)
            actor.recovered(self.connection, crashed=way == "crash")
        elif way == "neighbour" and self.server.admin.hexists(keys.owners(Q), actor.name):
            self.server.admin.hset(keys.owners(Q), actor.name, self.gone_owner)

    @rule(which=places_of_actors, verdict=verdicts, how=st.sampled_from(["not yet", "running", "clock"]))
    def freeze(self, which: int, verdict: Verdict, how: str) -> None:
        """Past its lease, before it begins a message or while it runs one; or the server's clock jumps."""
        actor = self.actors[which]
        with actor.mishap(None):
            if not actor.hand:
                actor.take(wait=False)
            if how == "not yet":
                self.stand_still()
            if actor.hand:
                if how == "running":
                    self.account.again.add(body_of(actor.hand.raw))
                while_it_runs = {"not yet": self.look_on, "running": self.stand_still, "clock": self.jump}
                self.run(actor, verdict, while_it_runs[how])

    # Keepers, operators, and time.

    def look_on(self) -> None:
        """Nothing happens."""

    def stand_still(self) -> None:
        """Long enough that others look twice."""
        for _ in range(2):
            self.keep(LEASE_AND_MORE_S, renews=False)

    def jump(self) -> None:
        """Every lease seems to be over; who lives renews it before anybody looks again."""
        self.what_is_late_arrives()
        self.places.age(LEASE_AND_MORE_S)
        with self.taking_over():
            self.observer.take_over()
        self.renew()

    def renew(self) -> None:
        for actor in self.actors:
            actor.board.renewed(gone=bool(self.observer.renew([actor.name])))

    def what_is_late_arrives(self) -> None:
        for actor in (*self.actors, *self.departed):
            actor.connection.deliver_late()

    @rule(seconds=st.sampled_from([0.0, 10.0, 45.0, LEASE_AND_MORE_S]), renews=st.booleans())
    def keep(self, seconds: float, *, renews: bool) -> None:
        """Whatever is late arrives within a lease."""
        if seconds:
            self.what_is_late_arrives()
        self.now_s += seconds
        self.places.age(seconds)
        if renews:
            self.renew()
        with self.taking_over():
            self.observer.take_over()
        self.observer.tend()

    @rule(act=st.sampled_from(["pause", "resume", "forget scripts", "late ones arrive", "look around"]))
    def operate(self, act: str) -> None:
        if act == "forget scripts":
            self.server.admin.script_flush()
        elif act == "late ones arrive":
            self.what_is_late_arrives()
        elif act == "look around":
            with self.taking_over():
                self.observer.take_over_neighbours()
        else:
            self.queue.pause() if act == "pause" else self.queue.resume()

    @rule(drop=st.booleans())
    def decide_on_the_dead(self, *, drop: bool) -> None:
        first = next(iter(self.queue.dead), None)
        if first is not None and drop:
            self.account.dropped.add(body_of(first.raw))
            self.queue.dead.drop(first)
        else:
            self.queue.dead.retry()

    @invariant()
    def everything_is_in_its_place(self) -> None:
        self.account.check()

    def teardown(self) -> None:
        for actor in self.actors:
            actor.connection.faults.clear()
            actor.close()
        for _ in range(ROUNDS):
            self.keep(LEASE_AND_MORE_S, renews=False)
        last = self.new_actor(1)
        while last.take(wait=False) or last.hand:
            self.run(last, "well")
        last.close()
        self.connection.close()
        self.account.check_rest()


@pytest.fixture
def machine(server: LiveServer) -> type[OnePlace]:
    OnePlace.server = server
    said = "from hotqueue import identity; print(identity.owner())"
    OnePlace.gone_owner = subprocess.check_output([sys.executable, "-c", said], text=True).strip()
    return OnePlace


def test_each_message_is_in_exactly_one_place(machine: type[OnePlace]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            phases=(Phase.reuse, Phase.generate),  # to shrink 40 steps takes minutes, and they can be read
            stateful_step_count=40,
        ),
    )
