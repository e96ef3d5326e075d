"""The words of the log: each line is one event with fields. They are fixed, and listed here only."""

import logging
from collections.abc import Callable, Mapping

SUPERVISOR_STARTED = "supervisor.started"
SUPERVISOR_RESIZED = "supervisor.resized"
SUPERVISOR_QUIET = "supervisor.quiet"
SUPERVISOR_RESUMED = "supervisor.resumed"
SUPERVISOR_RELOADING = "supervisor.reloading"
SUPERVISOR_RELOADED = "supervisor.reloaded"
SUPERVISOR_RELOAD_FAILED = "supervisor.reload_failed"
SUPERVISOR_STOPPING = "supervisor.stopping"
SUPERVISOR_STOPPED = "supervisor.stopped"
TEMPLATE_EXITED = "template.exited"
TEMPLATE_THREADS = "template.threads"
TEMPLATE_SOCKETS = "template.sockets"
CHILD_STARTED = "child.started"
CHILD_READY = "child.ready"
CHILD_EXITED = "child.exited"
CHILD_RECYCLED = "child.recycled"
CHILD_STACK = "child.stack"
CHILD_FAILED = "child.failed"
CHILD_KILLED = "child.killed"
HOOK_FAILED = "hook.failed"
KEEPER_FAILED = "keeper.failed"
ORPHAN_ENDED = "orphan.ended"
STATUS_FAILED = "status.failed"
FORK_FAILED = "fork.failed"
METRICS_FAILED = "metrics.failed"
MESSAGE_DONE = "message.done"
MESSAGE_RETRIED = "message.retried"
MESSAGE_BURIED = "message.buried"
MESSAGE_INTERRUPTED = "message.interrupted"
MESSAGE_RELEASED = "message.released"
BACKOFF_FAILED = "backoff.failed"
CLAIM_LOST = "claim.lost"
REDIS_LOST = "redis.lost"
REDIS_BACK = "redis.back"
WAIT_REFUSED = "wait.refused"
DEAD_TRIMMED = "dead.trimmed"
DEAD_MANY = "dead.many"
REDIS_EVICTS = "redis.evicts"
LOG_DROPPED = "log.dropped"
VARIABLE_UNKNOWN = "variable.unknown"
SERVER_STARTED = "server.started"
SERVER_STOPPED = "server.stopped"

log = logging.getLogger("hotqueue")

# Writes an event at less than half the cost of a log record; returns False where a record is needed.
shortcut: Callable[[int, str, Mapping[str, object]], bool] | None = None


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
    if log.isEnabledFor(level):
        record(level, name, {key: value for key, value in fields.items() if value is not None}, error)


def record(level: int, name: str, known: dict[str, object], error: BaseException | None = None) -> None:
    """Log one event whose level is known to be enabled, and whose fields are none of them None."""
    if error is None and shortcut is not None and shortcut(level, name, known):
        return
    event = Event(name, known)
    raised = (type(error), error, error.__traceback__) if error is not None else None
    # Not `log.log`: it would look for the file and line of its caller, which is here, and take twice as long.
    log.handle(log.makeRecord(log.name, level, __file__, 0, event, (), raised))
