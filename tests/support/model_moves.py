"""What may happen next in the model of the claim protocol.

A command may be carried out with its reply lost, or never, or at any later moment. A consumer may die at any
step, with its supervisor or without; or be retired by somebody who takes it for dead. A lease is looked at
twice, so far apart that who lives has renewed it and has made good what failed. A list is swept when no
command for it can be under way any more.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.support.model_consumer import Board, Consumer, Life
from tests.support.model_server import (
    CRASH,
    MESSAGES,
    NO_CLAIM,
    SUSPECT,
    Bugs,
    Command,
    Frames,
    Scripts,
    Server,
    message,
)


class Scene(NamedTuple):
    """Who takes part, and how much may go wrong."""

    consumers: int = 2
    prefetch: int = 1
    losses: int = 0  # of a command or its reply
    deaths: int = 0  # that a supervisor sees
    vanishes: int = 0  # deaths that nobody sees
    mistakes: int = 0  # somebody takes a living consumer for dead
    jumps: int = 0  # of the server's clock: every lease seems to be over
    pauses: int = 0
    revocations: int = 0  # of a claim behind a message that overstays
    seats: bool = False  # whether the consumers are those of one child, and the first message is a suspect
    flaky: bool = False  # whether one of the messages fails at first

    @property
    def repeats(self) -> int:
        """How often messages may be run once more, all together."""
        of_each = self.consumers if self.seats else 1
        return self.deaths * of_each + (self.vanishes + self.mistakes) * self.prefetch


class State(NamedTuple):
    """All of it, and how much may still go wrong."""

    server: Server
    consumers: tuple[Consumer, ...]
    left: Scene
    under_way: tuple[Command, ...] = ()  # whose reply nobody waits for any more
    ran: Frames = ()  # frames without their crashes, each as often as it was begun
    ended: Frames = ()  # messages whose handler has returned
    wronged: Frames = ()  # messages that a crash was counted against, and that did not run, or not alone

    def having(self, index: int, consumer: Consumer) -> "State":
        return self._replace(consumers=(*self.consumers[:index], consumer, *self.consumers[index + 1 :]))

    def spending(self, **what: int) -> "State":
        left = {name: getattr(self.left, name) - cost for name, cost in what.items()}
        return self._replace(left=self.left._replace(**left))


class Move(NamedTuple):
    """What happens, what of it Redis carries out, and what there is afterwards."""

    word: str
    carried_out: tuple[Command, ...]
    state: State


class Moves:
    """With these bugs."""

    def __init__(self, scene: Scene, bugs: Bugs) -> None:
        self._scene = scene
        self._bugs = bugs
        self.scripts = Scripts(bugs)

    def start(self) -> State:
        first, *rest = MESSAGES
        server = Server(waiting=(first + SUSPECT, *rest)) if self._scene.seats else Server()
        return State(server, (Consumer(),) * self._scene.consumers, self._scene)

    def of(self, state: State) -> Iterator[Move]:
        for index, consumer in enumerate(state.consumers):
            if consumer.status == "up":
                yield from self._consumes(state, index, consumer)
                yield from self._overstays(state, index, consumer)
                yield from self._ends(state, index, consumer)
            elif consumer.status == "dead":
                yield from self._recoveries(state, index, consumer)
        yield from self._late_ones(state)
        yield from self._keeping(state)
        yield from self._leases(state)

    def _carried(self, word: str, state: State, *commands: Command) -> Move:
        server = state.server
        for command in commands:
            server, _ = self.scripts.carry_out(server, command)
        return Move(word, commands, state._replace(server=server))

    def _consumes(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        if not consumer.incarnation:
            if not state.server.paused or consumer.past:
                yield from self._open(state, index, consumer)
        elif consumer.running:
            yield from self._end(state, index, consumer)
        elif consumer.yielding:
            yield from self._yields(state, index, consumer)
        elif consumer.stored or consumer.looked:
            yield self._begins(state, index, consumer)
        elif state.server.paused:
            yield from self._pausing(state, index, consumer)
        elif consumer.next:
            yield from self._says_so(state, index, consumer)
        elif consumer.done or state.server.waiting:
            take = consumer.life.command("take", most=self._scene.prefetch)
            yield from self._command(state, index, take, consumer.claimed)
            if not consumer.done:
                yield from self._command(state, index, consumer.life.command("wait"), consumer.waited)

    def _has_room(self, state: State, index: int, consumer: Consumer) -> bool:
        """A suspect begins when nothing else runs in its child, and nothing beside one.

        Others give back what they hold meanwhile, as they do of a revoked claim; here they wait.
        """
        others = [each for place, each in enumerate(state.consumers) if place != index]
        busy = [each.is_alone for each in others if each.status == "up" and (each.running or each.stored)]
        if not self._scene.seats or self._bugs.runs_beside:
            return True
        return not any(busy) and not (busy and consumer.is_alone)

    def _says_so(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        """Tell what is about to begin; one step with the beginning where nobody revokes anything."""
        if self._bugs.looks_first:
            may_begin = not consumer.board.is_revoked
            looked = consumer._replace(looked=True) if may_begin else consumer.stopped_short()
            yield Move(f"{index} looks", (), state.having(index, looked))
        elif self._scene.revocations:
            yield Move(f"{index} says so", (), state.having(index, consumer.about_to_begin()))
        elif self._has_room(state, index, consumer):
            yield self._begins(state, index, consumer.about_to_begin())

    def _begins(self, state: State, index: int, consumer: Consumer) -> Move:
        """Unless the claim was revoked."""
        is_seen = consumer.board.is_revoked and not consumer.looked
        if is_seen and not self._bugs.starts_unseen:
            return Move(f"{index} stops short", (), state.having(index, consumer.stopped_short()))
        ran = tuple(sorted((*state.ran, consumer.next % CRASH)))
        begun = (consumer.about_to_begin() if consumer.looked else consumer).begun()
        return Move(f"{index} begins", (), state._replace(ran=ran).having(index, begun))

    def _yields(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        """Release what is not begun, then begin a new claim: who takes back of the old one comes too late."""
        if consumer.next:
            hand_back = consumer.life.command("hand_back")
            yield from self._command(state, index, hand_back, lambda _: consumer.yielded())
        else:
            flush = consumer.life.command("take", most=0)
            yield from self._command(state, index, flush, consumer.claimed)

    def _overstays(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        """The supervisor revokes, then looks what is begun, and has the rest handed back at any time."""
        board = consumer.board
        if board.claim == NO_CLAIM or board.started >= board.size:
            return
        if state.left.revocations and not board.is_revoked:
            revoked = consumer._replace(board=board._replace(revoked=board.claim, is_read=False))
            yield Move(f"{index} is revoked", (), state.spending(revocations=1).having(index, revoked))
        if board.is_revoked and not board.is_read:
            read = consumer._replace(board=board._replace(is_read=True))
            command = Command("hand_back", board.incarnation, board.claim, board.started)
            under_way = tuple(sorted((*state.under_way, command)))
            yield Move(f"{index} is read", (), state._replace(under_way=under_way).having(index, read))

    def _open(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        if not consumer.opening:
            life = Life(10 * (index + 1) + consumer.lives)
            begun = consumer._replace(lives=consumer.lives + 1, past=(*consumer.past, life))
            too_early = self._bugs.publishes_first
            registered = begun.registered(too_early=too_early)
            register = life.command("register")
            yield from self._command(state.having(index, begun), index, register, lambda _: registered)
            return
        oldest = consumer.past[0]
        if oldest.incarnation != consumer.opening and not self._bugs.keeps_its_life:
            yield from self._command(state, index, oldest.command("retire"), lambda _: consumer.retired())
            return
        yield Move(f"{index} is published", (), state.having(index, consumer.published()))

    def _end(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        life = consumer.settlement(flaky=self._scene.flaky)
        if life is not None:
            act = "bury" if life.fate == "bury" else "retry"
            if self._bugs.goes_on:
                consumer = consumer._replace(board=consumer.board._replace(revoked=NO_CLAIM))
            yield from self._command(state, index, life.command(act), consumer.settled)
            return
        done = message(consumer.next)
        state = state._replace(ended=tuple(sorted({*state.ended, done})))
        yield Move(f"{index} has done {done}", (), state.having(index, consumer.ended()))

    def _pausing(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        """What is not begun goes back, what is done is acknowledged."""
        if consumer.next and self._bugs.drops_when_paused:
            yield Move(f"{index} drops", (), state.having(index, consumer._replace(hand=())))
        elif consumer.next:
            yield from self._yields(state, index, consumer)
        elif consumer.done:
            flush = consumer.life.command("take", most=0)
            yield from self._command(state, index, flush, consumer.claimed)

    def _command(
        self, state: State, index: int, command: Command, then: Callable[[object], Consumer]
    ) -> Iterator[Move]:
        """Send it: all goes well, or the reply is lost, or the server has it later or never."""
        server, reply = self.scripts.carry_out(state.server, command)
        done = state._replace(server=server)
        yield Move(f"{index} {command}", (command,), done.having(index, then(reply)))
        if not state.left.losses:
            return
        consumer = state.consumers[index]
        lost = consumer if self._bugs.keeps_its_life else consumer.abandoned(self._fated(consumer, command))
        fewer = state.spending(losses=1).having(index, lost._replace(opening=0))
        yield Move(f"{index} {command} is lost", (), fewer)
        yield Move(f"{index} {command}, the reply is lost", (command,), fewer._replace(server=server))
        under_way = tuple(sorted((*state.under_way, command)))
        yield Move(f"{index} {command} is late", (), fewer._replace(under_way=under_way))

    def _fated(self, consumer: Consumer, command: Command) -> Life:
        if command.act not in {"bury", "retry"} or self._bugs.forgets_the_failure:
            return consumer.life
        return consumer.life._replace(fate=command.fate, frame=command.frame)

    def _ends(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        if consumer.incarnation and not consumer.running:
            gone = consumer._replace(status="gone", board=Board())
            stop = consumer.life.command("retire", sweep=False)
            yield self._carried(f"{index} stops", state.having(index, gone), stop)
        if state.left.deaths and self._scene.seats and index == 0:
            yield Move("all die", (), _all_dead(state.spending(deaths=1)))
        elif state.left.deaths and not self._scene.seats:
            yield Move(f"{index} dies", (), state.spending(deaths=1).having(index, _now(consumer, "dead")))
        if state.left.vanishes:
            gone = _now(consumer, "lost")
            yield Move(f"{index} vanishes", (), state.spending(vanishes=1).having(index, gone))
        if state.left.mistakes and consumer.board.incarnation:
            retire = Command("retire", consumer.board.incarnation)
            yield self._carried(f"{index} is taken for dead", state.spending(mistakes=1), retire)

    def _recoveries(self, state: State, index: int, consumer: Consumer) -> Iterator[Move]:
        """By the supervisor, from the scoreboard; and perhaps once more, because it heard no reply."""
        commands = self._recovery(state.server, consumer)
        for command in commands:
            believed = state.server.latest(command.incarnation) == command.claim
            counted = command.frame % SUSPECT >= CRASH and believed
            if counted and (message(command.frame) != consumer.suspect or consumer.among):
                state = state._replace(wronged=(message(command.frame),))
        recovered = state.having(index, _now(consumer, "recovered"))
        yield self._carried(f"{index} is recovered", recovered, *commands)
        if state.left.losses:
            yield self._carried(f"{index} is recovered, unheard", state.spending(losses=1), *commands)

    def _recovery(self, server: Server, consumer: Consumer) -> list[Command]:
        board = consumer.board
        if not board.incarnation:
            return []
        place = 0 if self._bugs.blames_the_head else board.started - 1
        done = 0 if self._bugs.blames_the_head else board.finished
        suspects = server.held(board.incarnation)[place : place + 1] if board.is_running else ()
        life = Life(board.incarnation, board.claim, done)
        if suspects:
            mark = SUSPECT if self._scene.seats else 0
            mark += 0 if consumer.among and not self._bugs.blames_all else CRASH
            life = life._replace(fate="replace", frame=suspects[0] % CRASH + mark)
        return [life.command("retire")]

    def _late_ones(self, state: State) -> Iterator[Move]:
        for command in dict.fromkeys(state.under_way):
            rest = list(state.under_way)
            rest.remove(command)
            yield self._carried(f"{command} arrives", state._replace(under_way=tuple(rest)), command)

    def _keeping(self, state: State) -> Iterator[Move]:
        for incarnation in state.server.retired:
            if not any(command.incarnation == incarnation for command in state.under_way):
                sweep = Command("retire", incarnation, sweep=False)
                yield self._carried(f"{incarnation} is swept", state, sweep)
        for frame in state.server.delayed:
            yield self._carried(f"{frame} is due", state, Command("is_due", frame=frame))
        if state.server.paused:
            yield self._carried("resume", state, Command("resume"))
        elif state.left.pauses:
            yield self._carried("pause", state.spending(pauses=1), Command("pause"))

    def _leases(self, state: State) -> Iterator[Move]:
        server = state.server
        if state.left.jumps:
            lapsing = [Command("lapse", incarnation) for incarnation, _ in server.claims]
            yield self._carried("the clock jumps", state.spending(jumps=1), *lapsing)
        alone = [Command("lapse", each) for each, _ in server.claims if _is_of_a_lost_one(state, each)]
        if {*server.over, *(each.incarnation for each in alone)} - {*server.seen}:
            yield self._carried("somebody looks", state, *alone, Command("look", sweep=self._bugs.looks_once))
        if server.seen and all(map(_is_calm, state.consumers)):
            living = [each.board.incarnation for each in state.consumers if each.status == "up"]
            renewals = [Command("renew", each) for each in living if each]
            yield self._carried("somebody looks again", state, *renewals, Command("look"))


def _now(consumer: Consumer, status: str) -> Consumer:
    return consumer._replace(status=status)


def _all_dead(state: State) -> State:
    """The child has died with all its seats."""
    up = [each for each in state.consumers if each.status == "up"]
    several = sum(each.board.is_running for each in up) > 1
    dead = (_now(each, "dead")._replace(among=several) if each in up else each for each in state.consumers)
    return state._replace(consumers=tuple(dead))


def _is_of_a_lost_one(state: State, incarnation: int) -> bool:
    return state.consumers[incarnation // 10 - 1].status == "lost"


def _is_calm(consumer: Consumer) -> bool:
    return consumer.status != "dead" and (consumer.status != "up" or consumer.is_settled)
