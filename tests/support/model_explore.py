"""Look at every state of the model of the claim protocol that can be reached."""

from dataclasses import dataclass

from tests.support.model_consumer import BAD
from tests.support.model_moves import Moves, Scene, State
from tests.support.model_server import MESSAGES, Bugs, message

_NO_BUGS = Bugs()


class Broken(AssertionError):
    """An invariant does not hold; the message has the way there."""


@dataclass(frozen=True)
class Explored:
    """What there was to see."""

    states: int
    ends: int


def explore(scene: Scene, bugs: Bugs = _NO_BUGS) -> Explored:
    """Raises Broken."""
    moves = Moves(scene, bugs)
    start = moves.start()
    came_by: dict[State, tuple[State, str] | None] = {start: None}
    pending = [start]
    ends = 0
    while pending:
        state = pending.pop()
        successors = list(moves.of(state))
        ends += not successors
        problem = wrong(state, scene.repeats) or (None if successors else _not_at_rest(state))
        if problem:
            raise Broken("\n".join([problem, *_way(came_by, state)]))
        for word, _, successor in successors:
            if successor not in came_by:
                came_by[successor] = (state, word)
                pending.append(successor)
    return Explored(len(came_by), ends)


def wrong(state: State, repeats: int) -> str | None:
    """Say which invariant does not hold."""
    lying = [message(frame) for frame in state.server.everywhere()]
    for each in MESSAGES:
        if lying.count(each) > 1:
            return f"{each} lies in two places"
        if each not in lying and (each == BAD or each not in state.ended):
            return f"{each} is nowhere and was not run to its end"
    if {*map(message, state.server.dead)} - {BAD}:
        return "a good message is dead"
    if len(state.ran) - len({*state.ran}) > repeats:
        return f"more than {repeats} repeats"
    if state.wronged:
        return f"a crash is counted against {state.wronged}, which did not run, or not alone"
    return _not_alone(state)


def _not_alone(state: State) -> str | None:
    running = [each.is_alone for each in state.consumers if each.running and each.status == "up"]
    if state.left.seats and len(running) > 1 and any(running):
        return "a suspect runs beside another"
    return None


def _not_at_rest(state: State) -> str | None:
    if state.server.lists:
        return "a message is stuck on a list that nobody will look at"
    if state.server.delayed:
        return "a message is put aside for ever"
    return None


def _way(came_by: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    words: list[str] = []
    while (step := came_by[state]) is not None:
        state, word = step
        words.append(word)
    return words[::-1]
