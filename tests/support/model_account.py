"""What a test has done with each message, and whether what lies in Redis agrees with that."""

from hotqueue.envelope import trail_of
from hotqueue.trail import Trail
from tests.support.model_places import Places, body_of, places_of_each


class Account:
    """`acked` were run to their end and acknowledged, though Redis may not know it yet.

    `again` are those of them that were released because nobody knew it, `absent` those seen to be nowhere any
    more, `troubled` have failed or expired, `crashed` killed a consumer.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._sent = 0
        self.accepted, self.acked, self.again, self.absent = (set[bytes]() for _ in range(4))
        self.dropped, self.troubled, self.crashed = (set[bytes]() for _ in range(3))

    def new_message(self) -> int:
        """A message that is going to be accepted."""
        self.accepted.add(b"%d" % self._sent)
        self._sent += 1
        return self._sent - 1

    def held_though_done(self) -> dict[bytes, list[str]]:
        """What is done, and lies on the list of a consumer because Redis does not know it."""
        places = places_of_each(self._places.frames())
        return {
            body: keys
            for body, keys in places.items()
            if body in self.acked and all(map(self._places.is_in_flight, keys))
        }

    def taken_over(self, held: dict[bytes, list[str]]) -> None:
        """What somebody has released meanwhile who cannot know that it is done may run once more."""
        places = places_of_each(self._places.frames())
        self.again |= {body for body, keys in held.items() if places.get(body, keys) != keys}

    def check(self) -> None:
        """Each message is in exactly one place, and nobody is blamed or buried without a reason."""
        frames = self._places.frames()
        self._check_places(places_of_each(frames))
        for key, all_ in frames.items():
            for raw in all_:
                self._check_blame(body_of(raw), trail_of(raw), is_dead=key == self._places.dead)

    def _check_places(self, places: dict[bytes, list[str]]) -> None:
        owned = self._places.owned()
        assert not {body: keys for body, keys in places.items() if len(keys) > 1}
        self.absent |= self.accepted - places.keys()
        assert self.absent <= self.acked | self.dropped, "it is nowhere"
        assert self.absent.isdisjoint(places), "what is gone is gone"
        assert places.keys() <= self.accepted
        for body, [key] in places.items():
            in_flight = self._places.is_in_flight(key)
            assert not in_flight or key in owned, f"{body!r} has no owner"
            assert in_flight or body not in self.acked - self.again, f"{body!r} is done and will run again"

    def _check_blame(self, body: bytes, trail: Trail, *, is_dead: bool) -> None:
        assert not is_dead or trail.reason
        assert not is_dead or body in self.troubled | self.crashed
        assert not trail.crashes or body in self.crashed

    def check_rest(self) -> None:
        """Everything is done, dead or dropped, and of no consumer anything is left."""
        places = places_of_each(self._places.frames())
        assert {key for keys in places.values() for key in keys} <= {self._places.dead}
        assert self.accepted == places.keys() | self.acked | self.dropped
        assert not self._places.registered()
