"""The claim protocol, in every interleaving of three messages, one or two consumers and a few faults."""

import re
from collections.abc import Sequence
from dataclasses import fields

import pytest

from tests.support.claim_model import Broken, Bugs, Scene, explore

# Each in a few seconds. Larger ones were found to hold as well, but take minutes: two losses with two
# consumers are 1.2 million states, a loss and a mistake with claims of three are 1.3 million.
SCENES = [
    Scene(consumers=1, losses=2),
    Scene(consumers=1, losses=2, deaths=1, prefetch=3),
    Scene(deaths=2, prefetch=2),
    Scene(losses=1, prefetch=2),
    Scene(mistakes=1, prefetch=2),
]


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_no_message_is_lost_stuck_doubled_or_wrongly_blamed_and_everything_comes_to_rest(
    scene: Scene,
) -> None:
    """And none is run twice but for a death, or for somebody who takes the living for dead."""
    explored = explore(scene)
    assert explored.states > 5_000
    assert explored.ends > 100


def explore_all(scenes: Sequence[Scene], bugs: Bugs) -> None:
    for scene in scenes:
        explore(scene, bugs)


@pytest.mark.parametrize("bug", [field.name for field in fields(Bugs)])
def test_the_model_finds_each_mistake_that_one_could_make(bug: str) -> None:
    with pytest.raises(Broken) as broken:
        explore_all(SCENES[:2], Bugs(**{bug: True}))
    what, *way = str(broken.value).splitlines()
    assert re.search("nowhere|stuck|did not run", what)
    assert len(way) > 3
