"""The other side in the model of the claim protocol: what a consumer knows, as in at_least_once.py."""

from typing import NamedTuple

from tests.support.model_server import FAILURE, NO_CLAIM, SUSPECT, Command, Frames, message

BAD = 2  # the message whose handler always fails, and is buried at once
FLAKY = 3  # the one whose handler fails the first time, and is put aside


class Life(NamedTuple):
    """An incarnation, and what is known of its latest claim."""

    incarnation: int
    claim: int = 0
    done: int = 0
    fate: str = "release"
    frame: int = 0

    def command(self, act: str, **more: int) -> Command:
        return Command(act, **self._asdict(), **more)  # type: ignore[arg-type]


class Board(NamedTuple):
    """What the scoreboard says of a consumer."""

    incarnation: int = 0
    claim: int = NO_CLAIM
    started: int = 0
    finished: int = 0
    size: int = 0
    revoked: int = NO_CLAIM  # the claim of which nothing more may be begun
    is_read: bool = False  # whether it was looked up what is begun of that

    @property
    def is_revoked(self) -> bool:
        return self.revoked == self.claim != NO_CLAIM

    @property
    def is_running(self) -> bool:
        return self.started > self.finished and self.claim != NO_CLAIM


class Consumer(NamedTuple):
    """Without an incarnation it has to open its lane first."""

    lives: int = 0
    opening: int = 0  # registered, and not yet published
    past: tuple[Life, ...] = ()
    incarnation: int = 0
    claim: int = 0
    hand: Frames = ()  # of this claim
    done: int = 0
    running: bool = False
    stored: bool = False  # that it is about to begin
    looked: bool = False  # that it may
    yielding: bool = False  # what it has not begun
    suspect: int = 0  # the message that was begun last, and has not ended well
    board: Board = Board()
    among: bool = False  # others that ran in the same child when it died
    status: str = "up"

    @property
    def life(self) -> Life:
        return Life(self.incarnation, self.claim, self.done)

    @property
    def next(self) -> int:
        """The frame that runs or is to be run; 0 if none is at hand."""
        return self.hand[self.done] if self.done < len(self.hand) else 0

    @property
    def is_alone(self) -> bool:
        """Whether what it begins or runs is a suspect."""
        return self.next >= SUSPECT

    @property
    def is_settled(self) -> bool:
        """Whether Redis knows of no other life of it than the one that it leads."""
        return not self.past and not self.opening

    def settlement(self, *, flaky: bool) -> Life | None:
        """With which fate what runs is settled; None if it ends well."""
        if message(self.next) == BAD:
            return self.life._replace(fate="bury", frame=self.next)
        if flaky and self.next % 100 == FLAKY:
            return self.life._replace(fate="replace", frame=self.next % SUSPECT + FAILURE)
        return None

    def registered(self, *, too_early: bool) -> "Consumer":
        opening = self.past[-1].incarnation
        return self._replace(opening=opening, board=Board(opening) if too_early else self.board)

    def published(self) -> "Consumer":
        opened = self._replace(past=(), incarnation=self.opening, opening=0)
        return opened.claimed((0, ()))

    def claimed(self, reply: object) -> "Consumer":
        """After `take`."""
        if not isinstance(reply, tuple):
            return self.abandoned(self.life)
        claim, hand = reply
        board = Board(self.incarnation, claim, size=len(hand), revoked=self.board.revoked)
        fresh = Consumer(lives=self.lives, past=self.past, incarnation=self.incarnation, status=self.status)
        return fresh._replace(claim=claim, hand=hand, suspect=self.suspect, board=board)

    def settled(self, reply: object) -> "Consumer":
        """After `bury` or `retry`."""
        if not isinstance(reply, int):
            return self.abandoned(self.life)
        settled = self.claimed((reply, self.hand[self.done + 1 :]))
        return settled._replace(suspect=0, yielding=self.board.is_revoked)

    def waited(self, reply: object) -> "Consumer":
        return self._replace(hand=reply, done=0) if isinstance(reply, tuple) else self

    def yielded(self) -> "Consumer":
        return self._replace(hand=self.hand[: self.done], yielding=True)

    def retired(self) -> "Consumer":
        return self._replace(past=self.past[1:])

    def abandoned(self, life: Life) -> "Consumer":
        past = (*self.past, life) if self.incarnation else self.past
        return Consumer(
            lives=self.lives, past=past, suspect=self.suspect, board=self.board, status=self.status
        )

    def about_to_begin(self) -> "Consumer":
        board = self.board._replace(started=self.done + 1, finished=self.done)
        return self._replace(stored=True, board=board, suspect=message(self.next))

    def begun(self) -> "Consumer":
        return self._replace(running=True, stored=False, looked=False)

    def stopped_short(self) -> "Consumer":
        board = self.board._replace(started=self.done)
        return self._replace(stored=False, looked=False, yielding=True, board=board, suspect=0)

    def ended(self) -> "Consumer":
        board = self.board._replace(finished=self.done + 1)
        return self._replace(done=self.done + 1, running=False, board=board, suspect=0)
