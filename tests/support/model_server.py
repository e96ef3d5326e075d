"""What Redis does in the model of the claim protocol: the Lua files once more, on tuples.

A frame is a number: the message from 1 to 9, ten for each failure and a hundred for each crash in its
trail, and a thousand for a suspect.
"""

from typing import NamedTuple

NO_CLAIM = -1
FAILURE = 10
CRASH = 100
SUSPECT = 1000
MESSAGES = (1, 2, 3)

Frames = tuple[int, ...]


def message(frame: int) -> int:
    return frame % FAILURE


class Command(NamedTuple):
    """One call of a script, or something that befalls the server."""

    act: str
    incarnation: int = 0
    claim: int = NO_CLAIM
    done: int = 0
    fate: str = "release"
    frame: int = 0
    sweep: bool = True
    most: int = 0

    def __str__(self) -> str:
        return " ".join(str(value) for value in self if value not in {"release", NO_CLAIM, 0})


class Bugs(NamedTuple):
    """What may be wrong with the protocol, to see whether the model finds it."""

    acks_without_claim: bool = False  # `retire` takes what is said of another claim for this one
    retries_without_claim: bool = False  # `retry` puts aside what somebody else has released
    buries_without_claim: bool = False  # `bury` the same
    forgets_retired: bool = False  # no list is swept once more
    keeps_its_life: bool = False  # a consumer goes on after an unknown outcome
    blames_the_head: bool = False  # of the list, instead of the one that the scoreboard says was started
    publishes_first: bool = False  # a new incarnation, before the old one is retired
    forgets_the_failure: bool = False  # what could not be put aside comes back without its new trail
    drops_when_paused: bool = False  # what a wait has caught is forgotten instead of given back
    starts_unseen: bool = False  # a buffered message, without a look whether its claim was revoked
    looks_first: bool = False  # whether it was, and only then says what it starts
    goes_on: bool = False  # with what was behind a failure, though its claim was revoked
    blames_all: bool = False  # of several that ran in one child
    runs_beside: bool = False  # what is suspected of a crash, others
    looks_once: bool = False  # a lease that seems to be over is released at the first look


class Server(NamedTuple):
    """What lies in Redis; and what the one who looks after leases has seen there."""

    waiting: Frames = MESSAGES
    lists: tuple[tuple[int, Frames], ...] = ()
    claims: tuple[tuple[int, int], ...] = ()
    retired: tuple[int, ...] = ()
    dead: Frames = ()
    delayed: Frames = ()
    careful: int = 0
    paused: bool = False
    over: tuple[int, ...] = ()  # incarnations whose lease is
    seen: tuple[int, ...] = ()  # to be over

    def held(self, incarnation: int) -> Frames:
        return dict(self.lists).get(incarnation, ())

    def latest(self, incarnation: int) -> int | None:
        return dict(self.claims).get(incarnation)

    def everywhere(self) -> list[int]:
        held = [frame for _, frames in self.lists for frame in frames]
        return [*self.waiting, *held, *self.dead, *self.delayed]

    def holding(self, incarnation: int, frames: Frames) -> "Server":
        lists = {**dict(self.lists), incarnation: frames}
        return self._replace(lists=tuple(sorted(item for item in lists.items() if item[1])))

    def claiming(self, incarnation: int, claim: int) -> "Server":
        return self._replace(claims=tuple(sorted({**dict(self.claims), incarnation: claim}.items())))

    def forgetting(self, incarnation: int) -> "Server":
        claims = tuple(item for item in self.claims if item[0] != incarnation)
        over, seen, retired = (
            tuple(each for each in known if each != incarnation)
            for known in (self.over, self.seen, self.retired)
        )
        return self._replace(claims=claims, over=over, seen=seen, retired=retired)

    def moving(self, incarnation: int, count: int) -> tuple["Server", Frames]:
        frames = self.waiting[:count]
        moved = self.holding(incarnation, self.held(incarnation) + frames)
        return moved._replace(waiting=self.waiting[count:]), frames


Outcome = tuple[Server, object]


class Scripts:
    """What each command does, with these bugs."""

    def __init__(self, bugs: Bugs) -> None:
        self._bugs = bugs

    def carry_out(self, server: Server, command: Command) -> Outcome:
        """The server afterwards, and its reply."""
        outcome: Outcome = getattr(self, command.act)(server, command)
        return outcome

    def register(self, server: Server, command: Command) -> Outcome:
        if command.incarnation in server.retired:
            return server, None
        return server.claiming(command.incarnation, 0), None

    def wait(self, server: Server, command: Command) -> Outcome:
        return server.moving(command.incarnation, 1)

    def take(self, server: Server, command: Command) -> Outcome:
        if server.latest(command.incarnation) != command.claim:
            return server, None
        count = command.most
        if count > 1 and server.careful:
            count, server = 1, server._replace(careful=server.careful - 1)
        server = self._acknowledged(server, command, command.done)
        server, frames = server.moving(command.incarnation, count)
        return server, (command.claim + 1, frames)

    def bury(self, server: Server, command: Command) -> Outcome:
        latest = server.latest(command.incarnation)
        if latest != command.claim and not self._bugs.buries_without_claim:
            return server, None
        server = self._acknowledged(server, command, command.done + 1)
        return server._replace(dead=(*server.dead, command.frame)), command.claim + 1

    def retry(self, server: Server, command: Command) -> Outcome:
        latest = server.latest(command.incarnation)
        if latest != command.claim and not self._bugs.retries_without_claim:
            return server, None
        server = self._acknowledged(server, command, command.done + 1)
        return server._replace(delayed=(*server.delayed, command.frame)), command.claim + 1

    def _acknowledged(self, server: Server, command: Command, done: int) -> Server:
        server = server.holding(command.incarnation, server.held(command.incarnation)[done:])
        return server.claiming(command.incarnation, command.claim + 1)

    def retire(self, server: Server, command: Command) -> Outcome:
        incarnation, claim = command.incarnation, command.claim
        frames = server.held(incarnation)
        believed = server.latest(incarnation) == claim
        if believed or (self._bugs.acks_without_claim and claim != NO_CLAIM):
            frames = frames[command.done :]
            if frames and command.fate == "replace":
                frames = (command.frame, *frames[1:])
            elif frames and command.fate == "bury":
                server = server._replace(dead=(*server.dead, command.frame))
                frames = frames[1:]
        server = server.holding(incarnation, ()).forgetting(incarnation)
        if not believed and len(frames) > 1:
            server = server._replace(careful=server.careful + len(frames))
        if command.sweep and not self._bugs.forgets_retired:
            server = server._replace(retired=tuple(sorted((*server.retired, incarnation))))
        return server._replace(waiting=frames + server.waiting), (believed, len(frames))

    def hand_back(self, server: Server, command: Command) -> Outcome:
        if server.latest(command.incarnation) != command.claim:
            return server, 0
        held = server.held(command.incarnation)
        kept, released = held[: command.done], held[command.done :]
        server = server.holding(command.incarnation, kept)
        return server._replace(waiting=released + server.waiting), len(released)

    def is_due(self, server: Server, command: Command) -> Outcome:
        delayed = tuple(frame for frame in server.delayed if frame != command.frame)
        return server._replace(delayed=delayed, waiting=(*server.waiting, command.frame)), None

    def pause(self, server: Server, command: Command) -> Outcome:
        return server._replace(paused=True), None

    def resume(self, server: Server, command: Command) -> Outcome:
        return server._replace(paused=False), None

    def lapse(self, server: Server, command: Command) -> Outcome:
        return server._replace(over=tuple(sorted({*server.over, command.incarnation}))), None

    def renew(self, server: Server, command: Command) -> Outcome:
        return server._replace(over=tuple(each for each in server.over if each != command.incarnation)), None

    def look(self, server: Server, command: Command) -> Outcome:
        """Note what is over, and release what was noted before: the observer knows how long ago that was."""
        if not command.sweep:
            return server._replace(seen=server.over), None
        for incarnation in server.over:
            if incarnation in server.seen:
                server, _ = self.retire(server, Command("retire", incarnation))
        return server._replace(seen=server.over), None
