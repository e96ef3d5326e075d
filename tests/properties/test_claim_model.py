"""The claim protocol, in every interleaving of three messages, one or two consumers and a few faults."""

import pytest

from tests.support.model_explore import Broken, explore
from tests.support.model_moves import Scene
from tests.support.model_server import Bugs

# Larger ones were found to hold as well, but take minutes: a loss and a vanished consumer beside another are
# half a million states, a loss and the death of a child with two seats 320,000, a loss and a retry with two
# consumers 190,000, a revocation with two 67,000.
SMALL = [
    Scene(consumers=1, losses=1, flaky=True),
    Scene(consumers=1, losses=1, pauses=1),
    Scene(consumers=1, losses=2),
    Scene(consumers=1, losses=2, deaths=1, prefetch=3),
    Scene(jumps=1, vanishes=1, prefetch=2),
    Scene(consumers=1, revocations=2, deaths=1, prefetch=3, flaky=True),
    Scene(seats=True, deaths=1),
]
SCENES = [
    *SMALL,
    Scene(deaths=2, prefetch=2),
    Scene(seats=True, deaths=1, prefetch=2, flaky=True),
    Scene(deaths=1, flaky=True, prefetch=2),
    Scene(losses=1, prefetch=2),
    Scene(mistakes=1, prefetch=2),
    Scene(consumers=1, revocations=1, losses=1, prefetch=2),
    Scene(consumers=1, revocations=1, pauses=1, prefetch=3),
]


def told(scene: Scene) -> str:
    return ",".join(f"{name}={value}" for name, value in scene._asdict().items() if value)


@pytest.mark.parametrize("scene", SCENES, ids=told)
def test_no_message_is_lost_stuck_doubled_or_wrongly_blamed_and_everything_comes_to_rest(
    scene: Scene,
) -> None:
    """And none is run twice but for a death, or for somebody who takes the living for dead."""
    explored = explore(scene)
    assert explored.states > 1_000
    assert explored.ends > 100


def explore_all(bugs: Bugs) -> None:
    for scene in SMALL:
        explore(scene, bugs)


FOUND_BY = {
    "acks_without_claim": "nowhere",
    "retries_without_claim": "two places",
    "buries_without_claim": "two places",
    "forgets_retired": "stuck",
    "keeps_its_life": "nowhere|stuck|two places",
    "blames_the_head": "did not run",
    "publishes_first": "stuck|nowhere",
    "forgets_the_failure": "repeats",
    "drops_when_paused": "nowhere|stuck",
    "looks_once": "repeats",
    "blames_all": "not alone",
    "runs_beside": "beside",
    "starts_unseen": "repeats|two places|nowhere",
    "looks_first": "repeats|two places|nowhere",
    "goes_on": "repeats|two places|nowhere",
}


@pytest.mark.parametrize("bug", Bugs._fields)
def test_the_model_finds_each_mistake_that_one_could_make(bug: str) -> None:
    with pytest.raises(Broken, match=FOUND_BY[bug]) as broken:
        explore_all(Bugs(**{bug: True}))
    assert str(broken.value).count("\n") > 3
