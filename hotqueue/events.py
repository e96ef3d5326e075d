"""The words of the log: each line is one event with fields. They are fixed, and listed here only."""

import logging

SUPERVISOR_STARTED = "supervisor.started"
SUPERVISOR_STOPPING = "supervisor.stopping"
SUPERVISOR_STOPPED = "supervisor.stopped"
TEMPLATE_EXITED = "template.exited"
TEMPLATE_THREADS = "template.threads"
CHILD_STARTED = "child.started"
CHILD_READY = "child.ready"
CHILD_EXITED = "child.exited"
CHILD_FAILED = "child.failed"
CHILD_KILLED = "child.killed"
FORK_FAILED = "fork.failed"
MESSAGE_DONE = "message.done"
MESSAGE_RETRIED = "message.retried"
MESSAGE_BURIED = "message.buried"
MESSAGE_RELEASED = "message.released"
BACKOFF_FAILED = "backoff.failed"
CLAIM_LOST = "claim.lost"
REDIS_LOST = "redis.lost"
REDIS_BACK = "redis.back"
WAIT_REFUSED = "wait.refused"
REDIS_EVICTS = "redis.evicts"
SERVER_STARTED = "server.started"
SERVER_STOPPED = "server.stopped"

log = logging.getLogger("hotqueue")


class Event:
    """The message of a log record: a word and fields, made into text only where a plain handler prints it."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: dict[str, object]) -> None:
        """Keep both as they are."""
        self.name = name
        self.fields = fields

    def __str__(self) -> str:
        """Render as ``message.done queue=emails id=…``."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.fields.items())])


def emit(level: int, name: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Log one event to the standard `hotqueue` logger; fields that are None are left out."""
    if not log.isEnabledFor(level):
        return
    event = Event(name, {key: value for key, value in fields.items() if value is not None})
    raised = (type(error), error, error.__traceback__) if error is not None else None
    # Not `log.log`: it would look for the file and line of its caller, which is here, and take twice as long.
    log.handle(log.makeRecord(log.name, level, __file__, 0, event, (), raised))
