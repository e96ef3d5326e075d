"""The claim protocol as an explicit-state model: every interleaving of a few messages, consumers and faults.

What the server does stands in `Server`, as in the Lua files; what a consumer does in `Consumer`, as in
at_least_once.py; `moves` says what may happen next. `explore` looks at every state that can be reached.

A command may be carried out with its reply lost, or never, or at any later moment. A consumer may die at any
step, or be retired by somebody who takes it for dead. A list is swept when no command for it can be under
way any more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

NO_CLAIM = -1
BAD = 2  # the message whose handler fails
MESSAGES = (1, 2, 3)

Life = tuple[int, int, int, bool]  # incarnation, claim, done, whether the one after those is to be buried
Command = tuple[str, int, int, int, bool]  # act, then as in a life


@dataclass(frozen=True)
class Bugs:
    """What may be wrong with the protocol, to see whether the model finds it."""

    acks_without_claim: bool = False  # `retire` takes what is said of another claim for this one
    forgets_retired: bool = False  # no list is swept once more
    keeps_its_life: bool = False  # a consumer goes on after an unknown outcome
    blames_the_head: bool = False  # of the list, instead of the one that the scoreboard says was started
    publishes_first: bool = False  # a new incarnation, before the old one is retired


class Server(NamedTuple):
    """What lies in Redis."""

    waiting: tuple[int, ...] = MESSAGES
    lists: tuple[tuple[int, tuple[int, ...]], ...] = ()
    claims: tuple[tuple[int, int], ...] = ()
    retired: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()
    crashed: tuple[int, ...] = ()  # against which a crash was counted

    def held(self, incarnation: int) -> tuple[int, ...]:
        return dict(self.lists).get(incarnation, ())

    def holding(self, incarnation: int, frames: tuple[int, ...]) -> "Server":
        lists = {**dict(self.lists), incarnation: frames}
        return self._replace(lists=tuple(sorted(item for item in lists.items() if item[1])))

    def claiming(self, incarnation: int, claim: int | None) -> "Server":
        claims = {**dict(self.claims), incarnation: claim}
        return self._replace(claims=tuple(sorted((i, c) for i, c in claims.items() if c is not None)))


class Board(NamedTuple):
    """What the scoreboard says of a consumer."""

    incarnation: int = 0
    claim: int = NO_CLAIM
    started: int = 0
    finished: int = 0


class Consumer(NamedTuple):
    """One side of it. Without an incarnation it has to open its lane first."""

    lives: int = 0
    opening: int = 0  # registered, and not yet published
    past: tuple[Life, ...] = ()
    incarnation: int = 0
    claim: int = 0
    hand: tuple[int, ...] = ()  # of this claim
    done: int = 0
    running: bool = False
    board: Board = Board()
    status: str = "up"

    @property
    def life(self) -> Life:
        return (self.incarnation, self.claim, self.done, False)

    def abandoned(self, *, burial: bool = False) -> "Consumer":
        life = (self.incarnation, self.claim, self.done, burial)
        past = (*self.past, life) if self.incarnation else self.past
        return self._replace(past=past, incarnation=0, opening=0, hand=(), done=0, running=False)

    def claimed(self, claim: int, hand: tuple[int, ...]) -> "Consumer":
        board = Board(self.incarnation, claim)
        return self._replace(claim=claim, hand=hand, done=0, running=False, board=board)


class State(NamedTuple):
    """All of it, and how much may still go wrong."""

    server: Server
    consumers: tuple[Consumer, ...]
    losses: int
    deaths: int
    mistakes: int
    under_way: tuple[Command, ...] = ()  # whose reply nobody waits for any more
    ran: tuple[int, ...] = (0,) * len(MESSAGES)  # times begun, by message
    ended: tuple[int, ...] = ()  # messages whose handler has returned
    victims: tuple[int, ...] = ()  # what really ran in consumers that died

    def with_consumer(self, index: int, consumer: Consumer) -> "State":
        return self._replace(consumers=(*self.consumers[:index], consumer, *self.consumers[index + 1 :]))


Move = tuple[str, State]


class Protocol:
    """What may happen next, with these bugs."""

    def __init__(self, bugs: Bugs, prefetch: int) -> None:
        self.bugs = bugs
        self.prefetch = prefetch

    def carry_out(self, server: Server, command: Command) -> tuple[Server, object]:
        """What the server does, and its reply."""
        act, incarnation, claim, done, _ = command
        latest = dict(server.claims).get(incarnation)
        if act == "register":
            return (server if incarnation in server.retired else server.claiming(incarnation, 0)), 0
        if act == "wait":
            return self._moved(server, incarnation, 1)
        if act == "retire":
            return self._retire(server, command, latest), None
        if claim != latest:
            return server, None
        if act == "bury":
            frames = server.held(incarnation)
            server = server.holding(incarnation, frames[done + 1 :])
            server = server._replace(dead=(*server.dead, *frames[done : done + 1]))
            return server.claiming(incarnation, latest + 1), latest + 1
        server = server.holding(incarnation, server.held(incarnation)[done:])
        server, frames = self._moved(server.claiming(incarnation, latest + 1), incarnation, self.prefetch)
        return server, (latest + 1, frames)

    def _moved(self, server: Server, incarnation: int, count: int) -> tuple[Server, tuple[int, ...]]:
        frames = server.waiting[:count]
        server = server.holding(incarnation, server.held(incarnation) + frames)
        return server._replace(waiting=server.waiting[count:]), frames

    def _retire(
        self, server: Server, command: Command, latest: int | None, *, crash: bool = False, sweep: bool = True
    ) -> Server:
        _, incarnation, claim, done, burial = command
        frames = server.held(incarnation)
        if latest == claim or (self.bugs.acks_without_claim and claim != NO_CLAIM):
            frames = frames[done:]
            if burial:
                server = server._replace(dead=(*server.dead, *frames[:1]))
                frames = frames[1:]
            if crash:
                server = server._replace(crashed=(*server.crashed, *frames[:1]))
        server = server.holding(incarnation, ()).claiming(incarnation, None)
        retired = {*server.retired} - {incarnation}
        if sweep and not self.bugs.forgets_retired:
            retired.add(incarnation)
        return server._replace(waiting=frames + server.waiting, retired=tuple(sorted(retired)))

    def moves(self, state: State) -> Iterator[Move]:
        for index, consumer in enumerate(state.consumers):
            if consumer.status == "up":
                yield from self._consumer_moves(state, index, consumer)
                if state.deaths:
                    yield f"{index} dies", self._died(state, index, consumer)
                if state.mistakes and consumer.board.incarnation:
                    yield f"{index} is taken for dead", self._taken_for_dead(state, consumer)
            elif consumer.status == "dead":
                yield from self._recoveries(state, index, consumer)
        for command in dict.fromkeys(state.under_way):
            rest = list(state.under_way)
            rest.remove(command)
            server, _ = self.carry_out(state.server, command)
            yield f"{command} arrives", state._replace(server=server, under_way=tuple(rest))
        for incarnation in state.server.retired:
            if not any(command[1] == incarnation for command in state.under_way):
                yield f"{incarnation} is swept", state._replace(server=_swept(state.server, incarnation))

    def _consumer_moves(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        if not consumer.incarnation:
            yield from self._open(state, index, consumer)
            return
        if consumer.running:
            yield from self._end(state, index, consumer)
        elif consumer.done < len(consumer.hand):
            yield f"{index} begins", self._begun(state, index, consumer)
        elif consumer.done or state.server.waiting:
            yield from self._command(state, index, "take", consumer.life, self._took)
            if not consumer.done:
                yield from self._command(state, index, "wait", consumer.life, self._waited)
        if not consumer.running:
            yield from self._close(state, index, consumer)

    def _open(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        if not consumer.opening:
            incarnation = 10 * (index + 1) + consumer.lives
            life = (incarnation, 0, 0, False)
            consumer = consumer._replace(lives=consumer.lives + 1, past=(*consumer.past, life))
            state = state.with_consumer(index, consumer)
            yield from self._command(state, index, "register", life, self._registered)
            return
        oldest = consumer.past[0]
        if oldest[0] != consumer.opening and not self.bugs.keeps_its_life:
            yield from self._command(state, index, "retire", oldest, self._retired)
            return
        opened = consumer._replace(past=(), incarnation=consumer.opening, opening=0)
        yield f"{index} is published", state.with_consumer(index, opened.claimed(0, ()))

    def _registered(self, consumer: Consumer, reply: object) -> Consumer:
        opening = consumer.past[-1][0]
        board = Board(opening) if self.bugs.publishes_first else consumer.board
        return consumer._replace(opening=opening, board=board)

    def _retired(self, consumer: Consumer, reply: object) -> Consumer:
        return consumer._replace(past=consumer.past[1:])

    def _took(self, consumer: Consumer, reply: object) -> Consumer:
        return consumer.claimed(*reply) if isinstance(reply, tuple) else consumer.abandoned()

    def _waited(self, consumer: Consumer, reply: object) -> Consumer:
        return consumer._replace(hand=reply, done=0) if isinstance(reply, tuple) else consumer

    def _buried(self, consumer: Consumer, reply: object) -> Consumer:
        if not isinstance(reply, int):
            return consumer.abandoned()
        return consumer.claimed(reply, consumer.hand[consumer.done + 1 :])

    def _command(
        self, state: State, index: int, act: str, life: Life, then: Callable[[Consumer, object], Consumer]
    ) -> Iterator[Move]:
        """Send it: all goes well, or the reply is lost, or the server has it later or never."""
        command = (act, *life)
        consumer = state.consumers[index]
        server, reply = self.carry_out(state.server, command)
        done = state._replace(server=server)
        yield f"{index} {command}", done.with_consumer(index, then(consumer, reply))
        if state.losses:
            lost = consumer if self.bugs.keeps_its_life else consumer.abandoned(burial=act == "bury")
            lost = lost._replace(opening=0)
            fewer = state._replace(losses=state.losses - 1).with_consumer(index, lost)
            yield f"{index} {command} is lost", fewer
            yield f"{index} {command}, the reply is lost", fewer._replace(server=server)
            under_way = tuple(sorted((*state.under_way, command)))
            yield f"{index} {command} is late", fewer._replace(under_way=under_way)

    def _begun(self, state: State, index: int, consumer: Consumer) -> State:
        message = consumer.hand[consumer.done]
        board = consumer.board._replace(started=consumer.done + 1, finished=consumer.done)
        ran = tuple(times + (message == each) for each, times in zip(MESSAGES, state.ran, strict=True))
        state = state._replace(ran=ran)
        return state.with_consumer(index, consumer._replace(running=True, board=board))

    def _end(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        message = consumer.hand[consumer.done]
        if message == BAD:
            yield from self._command(state, index, "bury", consumer.life, self._buried)
            return
        done = consumer.done + 1
        ended = tuple(sorted({*state.ended, message}))
        board = consumer.board._replace(finished=done)
        state = state._replace(ended=ended)
        yield (
            f"{index} has done {message}",
            state.with_consumer(index, consumer._replace(done=done, running=False, board=board)),
        )

    def _close(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        command = ("retire", *consumer.life)
        latest = dict(state.server.claims).get(consumer.incarnation)
        server = self._retire(state.server, command, latest, sweep=False)
        gone = consumer._replace(status="gone", board=Board())
        yield f"{index} stops", state._replace(server=server).with_consumer(index, gone)

    def _died(self, state: State, index: int, consumer: Consumer) -> State:
        victim = consumer.hand[consumer.done : consumer.done + 1] if consumer.running else ()
        state = state._replace(deaths=state.deaths - 1, victims=(*state.victims, *victim))
        return state.with_consumer(index, consumer._replace(status="dead"))

    def _taken_for_dead(self, state: State, consumer: Consumer) -> State:
        command = ("retire", consumer.board.incarnation, NO_CLAIM, 0, False)
        server, _ = self.carry_out(state.server, command)
        return state._replace(server=server, mistakes=state.mistakes - 1)

    def _recoveries(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        """By the supervisor, from the scoreboard; and perhaps once more, because it heard no reply."""
        board = consumer.board
        server = state.server
        if board.incarnation:
            done = 0 if self.bugs.blames_the_head else board.finished
            command = ("retire", board.incarnation, board.claim, done, False)
            latest = dict(server.claims).get(board.incarnation)
            server = self._retire(server, command, latest, crash=board.started > board.finished)
        for status in ("recovered", "dead") if state.losses else ("recovered",):
            after = state._replace(server=server, losses=state.losses - (status == "dead"))
            yield f"{index} is recovered", after.with_consumer(index, consumer._replace(status=status))


def _swept(server: Server, incarnation: int) -> Server:
    frames = server.held(incarnation)
    retired = tuple(each for each in server.retired if each != incarnation)
    return server.holding(incarnation, ())._replace(waiting=frames + server.waiting, retired=retired)


class Broken(AssertionError):
    """An invariant does not hold; the message has the way there."""


@dataclass(frozen=True)
class Explored:
    """What there was to see."""

    states: int
    ends: int


@dataclass(frozen=True)
class Scene:
    """Who takes part, and how much may go wrong."""

    consumers: int = 2
    prefetch: int = 1
    losses: int = 0  # of a command or its reply
    deaths: int = 0
    mistakes: int = 0  # somebody takes a living consumer for dead


def explore(scene: Scene, bugs: Bugs | None = None) -> Explored:
    """Look at every reachable state. Raises Broken."""
    protocol = Protocol(bugs or Bugs(), scene.prefetch)
    start = State(
        server=Server(),
        consumers=(Consumer(),) * scene.consumers,
        losses=scene.losses,
        deaths=scene.deaths,
        mistakes=scene.mistakes,
    )
    repeats = scene.deaths + scene.mistakes * scene.prefetch  # of all messages together
    came_by: dict[State, tuple[State, str] | None] = {start: None}
    pending = [start]
    ends = 0
    while pending:
        state = pending.pop()
        problem = _wrong(state, repeats)
        successors = list(protocol.moves(state))
        if not successors:
            ends += 1
            problem = problem or _not_at_rest(state)
        if problem:
            raise Broken(problem + "\n" + "\n".join(_way(came_by, state)))
        for word, successor in successors:
            if successor not in came_by:
                came_by[successor] = (state, word)
                pending.append(successor)
    return Explored(len(came_by), ends)


def _wrong(state: State, repeats: int) -> str | None:
    server = state.server
    lying = [*server.waiting, *server.dead, *(frame for _, frames in server.lists for frame in frames)]
    for message in MESSAGES:
        if lying.count(message) > 1:
            return f"{message} lies in two places"
        if message not in lying and (message == BAD or message not in state.ended):
            return f"{message} is nowhere and was not run to its end"
    if set(server.dead) - {BAD}:
        return "a good message is dead"
    if sum(max(0, times - 1) for times in state.ran) > repeats:
        return f"more than {repeats} repeats"
    # A bad one that could not be buried yet was the last to run as well.
    innocent = set(server.crashed) - set(state.victims)
    if any(message in state.ended or not state.ran[MESSAGES.index(message)] for message in innocent):
        return "a crash is counted against one that did not run"
    return None


def _not_at_rest(state: State) -> str | None:
    server = state.server
    if server.lists:
        return "a message is stuck on a list that nobody will look at"
    return None


def _way(came_by: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    words: list[str] = []
    while (step := came_by[state]) is not None:
        state, word = step
        words.append(word)
    return words[::-1]
