"""Many kinds of job in one queue: a queue has one handler, and that one looks up what to call.

Run `hotqueue-worker examples.many_kinds`, and `python -m examples.many_kinds` to enqueue one of each kind.
A job of a kind that nobody knows is rejected: it goes to the dead list at once, to be retried after a fix.
"""

from collections.abc import Callable
from typing import TypedDict

from hotqueue import HotQueue, Reject

queue = HotQueue("jobs", serializer="json")


class Job(TypedDict):
    kind: str
    arguments: dict[str, object]


KINDS: dict[str, Callable[..., None]] = {}


def kind(function: Callable[..., None]) -> Callable[..., None]:
    KINDS[function.__name__] = function
    return function


@queue.worker
def run(job: Job) -> None:
    function = KINDS.get(job["kind"])
    if function is None:
        msg = f"nobody knows the kind {job['kind']!r}"
        raise Reject(msg)
    function(**job["arguments"])


def later(function: Callable[..., None], **arguments: object) -> None:
    queue.enqueue(Job(kind=function.__name__, arguments=arguments))


@kind
def welcome(name: str) -> None:
    print(f"welcome, {name}")


@kind
def resize(picture: str, width: int) -> None:
    print(f"{picture} is now {width} pixels wide")


if __name__ == "__main__":
    later(welcome, name="Ada")
    later(resize, picture="ada.png", width=640)
