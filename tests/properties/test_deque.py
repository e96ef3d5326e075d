"""A queue is a deque: whatever is done to it, in whatever order, by whichever of its two APIs."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hotqueue import HotQueue
from tests.support.servers import LiveServer

messages = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class QueueIsADeque(RuleBasedStateMachine):
    """Two producers, one writing frames and one bare bodies, and three ways to consume."""

    url: str

    @initialize()
    def empty(self) -> None:
        self.frames = HotQueue("deque", url=self.url)
        self.bare = HotQueue("deque", url=self.url, envelope=False)
        self.frames.clear()
        self.model: deque[object] = deque()

    @rule(batch=st.lists(messages, max_size=4), framed=st.booleans())
    def enqueue(self, batch: list[object], *, framed: bool) -> None:
        (self.frames if framed else self.bare).enqueue(*batch)
        self.model.extend(batch)

    @rule(message=messages)
    def send(self, message: object) -> None:
        assert self.frames.send(message)
        self.model.append(message)

    @rule(block=st.booleans())
    def dequeue(self, *, block: bool) -> None:
        expected = self.model.popleft() if self.model else None
        assert self.frames.dequeue(block=block, timeout=0.001) == expected

    @rule(count=st.integers(1, 3))
    def consume_some(self, count: int) -> None:
        expected = [self.model.popleft() for _ in range(min(count, len(self.model)))]
        consuming = self.bare.consume(block=False)
        assert list(islice(consuming, count)) == expected
        consuming.close()  # type: ignore[attr-defined]

    @rule()
    def run_all(self) -> None:
        done: list[object] = []
        self.frames.worker(done.append).run(block=False)
        assert done == list(self.model)
        self.model.clear()

    @rule()
    def clear(self) -> None:
        self.frames.clear()
        self.model.clear()

    @invariant()
    def as_long_as_the_deque(self) -> None:
        assert len(self.frames) == len(self.model)
        assert bool(self.bare) == bool(self.model)


@pytest.fixture
def machine(server: LiveServer, redis_url: str) -> Iterator[type[QueueIsADeque]]:
    QueueIsADeque.url = redis_url
    return QueueIsADeque


def test_a_queue_is_a_deque(machine: type[QueueIsADeque]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
        ),
    )
