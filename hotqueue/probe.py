"""The probe: whether a worker on this host is alive, and whether it is ready, by its status file."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hotqueue import status


class Answer(NamedTuple):
    """What is said, and the exit code: 0 for yes, 1 for no."""

    line: str
    code: int


def asked(words: Sequence[str]) -> Answer | None:
    """Answer what a probe asks, without a parser of options; None for what is written in another way."""
    match words:
        case ["--live" | "--ready" as question]:
            name = os.environ.get("HOTQUEUE_NAME")
        case ["--live" | "--ready" as question, "-n" | "--name", name]:
            pass
        case _:
            return None
    return answer(question[2:], name, os.environ.get("HOTQUEUE_STATUS_FILE"))


def answer(question: str, name: str | None, path: str | None) -> Answer:
    """Answer `live` or `ready` about the worker of that name, or with its status file at `path`."""
    name = name or status.default_name()
    found = path or status.find(name)
    if found is None:
        places = ", ".join(status.folders())
        return _no(question, f"there is no status file of a worker {name!r} in {places}")
    try:
        return judge(question, status.read(found))
    except OSError as error:
        return _no(question, f"{found}: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        return _no(question, f"{found} is no status file of a worker: {error}")


def judge(question: str, said: Mapping[str, Any]) -> Answer:
    """Answer by what a worker says of itself. Raises KeyError, TypeError or ValueError for what says less."""
    problem = _not_live(said) or (_not_ready(said) if question == "ready" else "")
    return _no(question, problem) if problem else Answer(f"{question}: {_well(said)}", 0)


def _not_live(said: Mapping[str, Any]) -> str:
    if not status.is_alive(said):
        return f"its supervisor, pid {said['pid']}, is gone"
    age_s = status.age_s(said, time.monotonic())
    if age_s > status.OLD_S:
        return f"its supervisor, pid {said['pid']}, has not written for {age_s:.0f} s"
    return ""


def _not_ready(said: Mapping[str, Any]) -> str:
    if said["phase"] == "stopping":
        return "it is stopping"
    if said["quiet"]:
        return "it begins nothing new until CONT"
    if not said["redis"]:
        return "it does not reach Redis"
    return "" if said["ready"] else f"none of its {said['wanted']} children is ready"


def _well(said: Mapping[str, Any]) -> str:
    return f"pid {said['pid']}, {said['phase']}, {said['ready']} of {said['wanted']} children ready"


def _no(question: str, problem: str) -> Answer:
    return Answer(f"not {question}: {problem}", 1)
