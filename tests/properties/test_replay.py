"""The model of the claim protocol does what the real scripts do, step by step."""

import random
from collections import Counter
from contextlib import closing

import pytest

from hotqueue.address import Address
from tests.support.model_moves import Move, Moves, Scene
from tests.support.model_replay import Replay
from tests.support.model_server import Bugs
from tests.support.servers import LiveServer

PATHS = 100
LONGEST = 120
USUAL = 0.92
SCENES = [
    Scene(losses=2, deaths=1, prefetch=2, flaky=True),
    Scene(losses=1, vanishes=1, jumps=1, prefetch=3, flaky=True),
    Scene(losses=2, mistakes=1, pauses=1, flaky=True),
    Scene(losses=1, revocations=2, prefetch=3, flaky=True),
]


def path(scene: Scene, seed: int) -> list[Move]:
    """A random one. What the scene has only so much of comes late enough, and nobody stops early."""
    choice = random.Random(seed)
    moves = Moves(scene, Bugs())
    state, way = moves.start(), list[Move]()
    while len(way) < LONGEST and (possible := list(moves.of(state))):
        costly = [move for move in possible if move.state.left != state.left]
        usual = [move for move in possible if move not in costly and "stops" not in move.word]
        move = choice.choice(usual if usual and choice.random() < USUAL else costly or possible)
        way.append(move)
        state = move.state
    return way


def replay(server: LiveServer, way: list[Move], moves: Moves) -> None:
    """Step by step; both must reply the same and hold the same."""
    state, words = moves.start().server, list[str]()
    with closing(Replay(server.admin, Address.from_url(server.url))) as real:
        for move in way:
            words.append(move.word)
            for command in move.carried_out:
                state, expected = moves.scripts.carry_out(state, command)
                assert real.carry_out(command) == expected, words
            assert state == move.state.server
            assert real.holds() == state._replace(seen=()), words


@pytest.mark.parametrize("scene", SCENES, ids=range(len(SCENES)))
def test_what_the_model_says_of_each_step_is_what_redis_does(server: LiveServer, scene: Scene) -> None:
    met = Counter[str]()
    for seed in range(PATHS):
        way = path(scene, seed)
        replay(server, way, Moves(scene, Bugs()))
        met.update({kind for move in way for kind in KINDS if kind in move.word})
    expected = [kind for kind, counts in KINDS.items() if all(getattr(scene, each) for each in counts)]
    assert min(met[kind] for kind in expected) > PATHS / 20, met


# What the paths have to meet with, wherever the scene has it.
KINDS = {
    "reply is lost": ["losses"],
    "arrives": ["losses"],
    "is swept": ["losses"],
    "is recovered": ["deaths"],
    "looks again": ["vanishes"],
    "clock jumps": ["jumps"],
    "taken for dead": ["mistakes"],
    "is due": ["flaky"],
    "pause": ["pauses"],
    "is revoked": ["revocations"],
    "hand_back": ["revocations"],
}
