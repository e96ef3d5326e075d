"""Whose turn it is: shares that hold, and nobody who starves."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotqueue.rota import Rota

NAMES = "abcde"
weights = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 20), min_size=1)


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, int], list[set[str]]]:
    """Weights, and which queues had messages at each of some earlier turns."""
    chosen = draw(weights)
    some = st.sets(st.sampled_from(sorted(chosen)), min_size=1)
    return chosen, draw(st.lists(some, max_size=60))


def serve(rota: Rota, filled: set[str]) -> str:
    """Take from the first queue that has something, as a consumer does."""
    queue = next(name for name in rota.order() if name in filled)
    rota.served(queue)
    return queue


def test_without_weights_queues_come_in_turn() -> None:
    rota = Rota(["a", "b", "c"])
    assert "".join(serve(rota, set("abc")) for _ in range(7)) == "abcabca"


def test_one_queue_is_always_first() -> None:
    rota = Rota(["a"])
    assert [serve(rota, {"a"}) for _ in range(3)] == ["a"] * 3


def test_strict_is_the_order_given_whoever_was_served() -> None:
    rota = Rota(["urgent", "later"], strict=True, weights={"later": 9})
    assert [serve(rota, {"urgent", "later"}) for _ in range(3)] == ["urgent"] * 3
    assert serve(rota, {"later"}) == "later"
    assert list(rota.order()) == ["urgent", "later"]


def test_weights_mix_rather_than_clump() -> None:
    rota = Rota(["a", "b"], weights={"a": 2, "b": 1})
    assert "".join(serve(rota, set("ab")) for _ in range(6)) == "abaaba"


@given(weights)
def test_in_each_round_from_the_start_every_queue_gets_exactly_its_weight(chosen: dict[str, int]) -> None:
    rota = Rota(list(chosen), weights=chosen)
    for _ in range(3):
        assert Counter(serve(rota, set(chosen)) for _ in range(sum(chosen.values()))) == chosen


@given(histories())
@example(({"a": 1, "b": 1}, [{"a"}] * 1000))
def test_shares_hold_within_one_message_whatever_was_before(
    history: tuple[dict[str, int], list[set[str]]],
) -> None:
    """Nobody is made to pay for what it got while others were empty."""
    chosen, earlier = history
    rota = Rota(list(chosen), weights=chosen)
    for filled in earlier:
        serve(rota, filled)
    rounds = 4
    got = Counter(serve(rota, set(chosen)) for _ in range(rounds * sum(chosen.values())))
    for name, weight in chosen.items():
        assert abs(got[name] - rounds * weight) <= 1, (chosen, got)


@given(histories())
def test_whoever_has_messages_is_served_within_a_round(
    history: tuple[dict[str, int], list[set[str]]],
) -> None:
    chosen, earlier = history
    total = sum(chosen.values())
    for name, weight in chosen.items():
        rota = Rota(list(chosen), weights=chosen)
        for filled in earlier:
            serve(rota, filled)
        turns = total // weight + len(chosen)
        assert name in {serve(rota, set(chosen)) for _ in range(turns)}, (chosen, name)


@pytest.mark.parametrize(("strict", "heavy"), [(True, 1), (True, 5), (False, 1), (False, 5)])
def test_the_order_always_names_every_queue_once(*, strict: bool, heavy: int) -> None:
    rota = Rota(["a", "b", "c"], strict=strict, weights={"b": heavy})
    for _ in range(20):
        assert sorted(rota.order()) == ["a", "b", "c"]
        serve(rota, {"a", "c"})
