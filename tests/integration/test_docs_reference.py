"""The reference has every public name: of a queue, of what it returns, and of what `@queue.worker` takes."""

import inspect
import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import hotqueue
from hotqueue import HotQueue
from hotqueue.batch import Batch
from hotqueue.dead import DeadLetters, DeadMessage
from hotqueue.delivery import Delivery
from hotqueue.handler import Options
from hotqueue.own_loop import OwnDelivery
from hotqueue.stats import Stats
from hotqueue.trail import Trail

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"
QUEUE = (REFERENCE / "queue.md").read_text(encoding="utf-8")
OTHER_NAMES = {"put", "get"}  # of `enqueue` and `dequeue`
RETURNED = [Batch, DeadLetters, DeadMessage, OwnDelivery, Stats, Trail]
NOT_FOR_READERS = {  # they write a Trail, or are for the worker
    *("dump", "load", "failed", "crashed", "suspected", "interrupted", "overran", "overran_s", "with_reason"),
}
SPECIAL = {"__len__", "__iter__", "__reversed__"}


def path_of(kind: type) -> str:
    """The name by which the page asks for the docstrings of a class."""
    return (
        f"hotqueue.{kind.__name__}"
        if kind.__name__ in hotqueue.__all__
        else f"{kind.__module__}.{kind.__name__}"
    )


def members(kind: type) -> set[str]:
    """What the page has of a class out of its docstrings."""
    found = re.search(
        rf"^::: {re.escape(path_of(kind))}\n(?:    .*\n)*?      members: \[(.+)\]", QUEUE, re.MULTILINE
    )
    assert found, f"the page has no {path_of(kind)}"
    return set(found[1].split(", "))


def public(kind: type, instance: object = None) -> set[str]:
    """Every name without an underscore, also those that the constructor sets."""
    names = {*vars(kind), *getattr(instance, "__dict__", {})}
    return {name for name in names if not name.startswith("_")} | SPECIAL.intersection(vars(kind))


def in_backticks(text: str | None) -> set[str]:
    quoted = re.findall(r"`([^`]+)`", text or "")
    return {word for each in quoted for word in re.findall(r"\w+", each)}


def arguments(function: Any) -> set[str]:
    """By what names a caller may or must give something, but for what the function is called on and about."""
    named = inspect.signature(function).parameters.values()
    return {each.name for each in named if each.default is not each.empty or each.kind is each.KEYWORD_ONLY}


def test_the_page_has_every_public_name_of_a_queue() -> None:
    names = public(HotQueue, HotQueue("q", port=1))
    sentences = set(re.findall(r"`(?:queue\.)?(\w+)`", QUEUE))
    assert names - members(HotQueue) - sentences == set()
    assert {HotQueue.put, HotQueue.get} == {HotQueue.enqueue, HotQueue.dequeue}
    assert sentences >= OTHER_NAMES


@pytest.mark.parametrize("kind", [HotQueue, *RETURNED])
def test_the_page_has_no_name_that_there_is_not(kind: type) -> None:
    assert members(kind) - {*dir(kind), *in_backticks(QUEUE)} == set()


@pytest.mark.parametrize("kind", RETURNED)
def test_the_page_has_every_public_name_of_what_a_queue_returns(kind: type) -> None:
    made = {
        OwnDelivery: lambda: OwnDelivery(Delivery("q", b"", None), None),  # type: ignore[arg-type]
        Batch: lambda: HotQueue("q", port=1).batch(),
    }
    assert public(kind, made.get(kind, lambda: None)()) - NOT_FOR_READERS - members(kind) == set()


@pytest.mark.parametrize("kind", [HotQueue, Batch, DeadLetters, OwnDelivery])
def test_every_argument_is_told_in_the_docstring_of_its_method(kind: type) -> None:
    for name in public(kind) - {"worker", "lane", "assignment"}:
        function = vars(kind)[name]
        if inspect.isfunction(function):
            assert function.__doc__, name
            assert arguments(function) - in_backticks(function.__doc__) == set(), name


def test_every_argument_of_a_queue_is_told() -> None:
    assert arguments(HotQueue) - in_backticks(HotQueue.__doc__) == set()


def test_the_page_has_every_option_of_the_decorator_and_no_other() -> None:
    table = QUEUE.partition("## Options of `@queue.worker`")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {
        each.name for each in fields(Options) if each.init
    }


def test_everything_that_is_imported_from_the_package_is_on_some_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md"))
    errors = {name for name in vars(import_module("hotqueue.errors")) if name[0].isupper()}
    assert "::: hotqueue.errors\n" in pages
    assert {name for name in hotqueue.__all__ if f"::: hotqueue.{name}\n" not in pages} - errors == set()
