"""Who takes part: HotQueue in its modes, two loops that do the least, and other queues on Redis."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """`adapter` is a file in `adapters/`, which says how it is run; `variant` chooses between its ways."""

    name: str
    adapter: str
    rate: int  # messages a process is expected to run in a second: how many it is given
    variant: str = ""
    packages: tuple[str, ...] = ()  # what pip installs for it; none: HotQueue's own environment
    one_process_a_command: bool = False
    hands_out: bool = False  # its parent gives messages to the first process that is free: some may get none
    lives: bool = True  # whether idle cost, latency and what a kill loses are measured too
    back: str = ""  # when a message comes back that was running, if that is later than anybody waits here


_SAQ = ("saq[redis,hiredis]", "typing-extensions")  # which it imports and does not ask for
_CELERY = ("celery[redis]", "hiredis")
_TASKIQ = ("taskiq", "taskiq-redis", "hiredis")

CONTESTANTS = (
    Contestant("BLPOP loop of redis-py", "bare", 6000, one_process_a_command=True),
    Contestant("the claim script alone", "claims", 150_000, one_process_a_command=True, lives=False),
    Contestant("HotQueue", "hotqueue_worker", 80_000, "at-least-once"),
    Contestant("HotQueue, a log line each", "hotqueue_worker", 30_000, "at-least-once logged", lives=False),
    Contestant("HotQueue, at-most-once", "hotqueue_worker", 5000, "at-most-once"),
    Contestant(
        "HotQueue, at-most-once, a log line each", "hotqueue_worker", 5000, "at-most-once logged", lives=False
    ),
    Contestant("Dramatiq", "dramatiq", 2000, packages=("dramatiq[redis]", "hiredis")),
    Contestant("taskiq, stream", "taskiq", 2000, "stream", _TASKIQ, back="600 s"),
    Contestant("taskiq, list", "taskiq", 1200, "list", _TASKIQ),
    Contestant("SAQ", "saq", 1600, packages=_SAQ),
    Contestant("Huey", "huey", 1200, packages=("huey", "redis", "hiredis")),
    Contestant("streaQ", "streaq", 900, packages=("streaq",)),
    Contestant("arq", "arq", 500, packages=("arq",), one_process_a_command=True, back="310 s"),
    Contestant(
        "Celery", "celery", 1000, "early", _CELERY, hands_out=True, back="an hour, unless it had begun"
    ),
    Contestant("Celery, acks_late", "celery", 500, "late", _CELERY, hands_out=True, back="an hour"),
    Contestant("RQ, SimpleWorker", "rq", 200, "rq.SimpleWorker", ("rq", "hiredis")),
    Contestant("RQ", "rq", 35, "rq.Worker", ("rq", "hiredis")),
)
