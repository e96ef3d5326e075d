"""Which handlers a worker runs, and what is said of an application that it cannot run."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotqueue import handler
from hotqueue.errors import ConfigurationError
from hotqueue.worker import application
from hotqueue.worker.settings import QueueChoice

TWO = """
    from hotqueue import HotQueue
    a, b, unused = HotQueue("a"), HotQueue("b"), HotQueue("unused")

    @a.worker
    def do_a(message): ...

    @b.worker
    def do_b(message): ...

    both = [a, do_b]
"""
METHOD = """
    from hotqueue import HotQueue
    queue = HotQueue("a")

    class Greeter:
        @queue.worker
        def greet(self, message): ...

    greeter = Greeter()
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into the current folder; what is imported and registered is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(handler, "_registry", {})
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    path, modules = list(sys.path), set(sys.modules)

    def write(source: str, name: str = "tasks") -> Path:
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return file

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def names(*targets: str, choice: QueueChoice | None = None) -> list[str]:
    return [found.__qualname__ for found in application.load(targets, choice or QueueChoice())]


def complaint(*targets: str, choice: QueueChoice | None = None) -> str:
    with pytest.raises(ConfigurationError) as error:
        application.load(targets, choice or QueueChoice())
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("tasks", ["do_a", "do_b"]),
        ("tasks:do_a", ["do_a"]),
        ("tasks:b", ["do_b"]),
        ("tasks:both", ["do_a", "do_b"]),
    ],
)
def test_a_target_is_a_module_a_handler_a_queue_or_a_list_of_them(
    write: Write, target: str, expected: list[str]
) -> None:
    write(TWO)
    assert names(target) == expected


def test_a_handler_that_is_named_twice_runs_once(write: Write) -> None:
    write(TWO)
    assert names("tasks:do_b", "tasks", "tasks:both") == ["do_b", "do_a"]


def test_a_method_is_named_by_its_object(write: Write) -> None:
    write(METHOD)
    (found,) = application.load(["tasks:greeter.greet"], QueueChoice())
    assert len(found.bound) == 1


def test_a_method_without_its_object_is_told_how_to_be_named(write: Write) -> None:
    write(METHOD)
    assert "a method is named as MODULE:object.method" in complaint("tasks")


def test_a_property_that_raises_is_one_line(write: Write) -> None:
    module = write(
        "class Shop:\n  @property\n  def handler(self):\n    raise RuntimeError('closed')\nshop = Shop()"
    )
    expected = f"cannot import tasks:shop.handler: RuntimeError: closed ({module}:4)"
    assert complaint("tasks:shop.handler") == expected


def test_the_choice_of_queues_gives_the_order(write: Write) -> None:
    write(TWO)
    assert names("tasks", choice=QueueChoice(("b", "a"))) == ["do_b", "do_a"]
    assert names("tasks", choice=QueueChoice(("b",))) == ["do_b"]


def test_a_module_of_a_package_is_found_in_the_current_folder(write: Write) -> None:
    write("", "shop/__init__")
    write(TWO, "shop/tasks")
    assert names("shop.tasks") == ["do_a", "do_b"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "no handler in tasks: decorate a function with @queue.worker"),
        ("raise SystemExit(3)", "cannot import tasks: SystemExit: 3 (HERE:1)"),
        ("raise KeyboardInterrupt", "cannot import tasks: KeyboardInterrupt (HERE:1)"),
        ("import json.nothing", "cannot import tasks: ModuleNotFoundError: No module named 'json.nothing'"),
        ("\ndef f(:", "cannot import tasks: SyntaxError: invalid syntax (HERE:2)"),
        ("def f():\n  1 / 0\nf()", "cannot import tasks: ZeroDivisionError: division by zero (HERE:2)"),
        (
            "from hotqueue import HotQueue\nHotQueue('q').worker(retries=-1)(print)",
            "cannot import tasks: ConfigurationError: retries must be a whole number from 0, got -1 (HERE:2)",
        ),
        ("import json\njson.loads('{')", "cannot import tasks: JSONDecodeError: Expecting property name"),
        ("from hotqueue import HotQueue\nHotQueue('a{b')", "are reserved (HERE:2)"),
        ("from hotqueue import HotQueue\nHotQueue('')", "a queue name must not be empty (HERE:2)"),
        ("from hotqueue import HotQueue\nHotQueue(7)", "a queue name must be a str, got int: 7 (HERE:2)"),
        ("from hotqueue import HotQueue\nHotQueue('a', url='http://x')", "unknown scheme 'http'"),
        ("from hotqueue import HotQueue\nHotQueue('a').dequeue(block=True)", "HERE:2: "),
        (
            f"{textwrap.dedent(TWO)}\n@a.worker\ndef again(message): ...",
            "two handlers for queue 'a': do_a (HERE:5) and again (HERE:13): give each a queue of its own",
        ),
        (
            "from hotqueue import HotQueue\n@HotQueue('a').worker\ndef f(one, two): ...",
            "handler f (HERE:2) cannot be called with a message alone: missing a required argument: 'two'",
        ),
        (
            "from hotqueue import HotQueue\n@HotQueue('a').worker\ndef f(one, two): ...",
            "'two'; a message is one value: send a dict or a tuple, and take it apart in the handler",
        ),
    ],
)
def test_an_application_that_cannot_be_served_is_described_in_one_line(
    write: Write, source: str, expected: str
) -> None:
    module = write(source)
    assert expected.replace("HERE", str(module)) in complaint("tasks")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("nowhere", "there is no module 'nowhere' in "),
        ("nowhere.tasks", "there is no module 'nowhere' in "),
        ("shop.nowhere", "there is no module 'shop.nowhere' in "),
        ("tasks.py", "'tasks.py' is a path: name the module, as tasks"),
        ("./shop/tasks.py", "'./shop/tasks.py' is a path: name the module, as shop.tasks"),
        ("shop/", "'shop/' is a path: name the module, as shop"),
        (".tasks", "'.tasks' is not the name of a module: write it as myapp.tasks"),
        ("", "'' is not the name of a module: write it as myapp.tasks"),
        ("tasks:nothing", "tasks:nothing: tasks has no attribute 'nothing'"),
        ("tasks:a.nothing", "tasks:a.nothing: HotQueue has no attribute 'nothing'"),
        ("tasks:__name__", "tasks:__name__ is of type str: name a handler, a HotQueue, or a list of them"),
        ("tasks:unused", "tasks:unused is a queue without a handler: decorate a function with @queue.worker"),
        ("tasks:", "ends in a colon"),
    ],
)
def test_a_target_that_is_not_there_is_named(write: Write, target: str, expected: str) -> None:
    write(TWO)
    write("", "shop/__init__")
    assert expected in complaint(target)


def test_a_queue_that_nobody_handles_is_named_with_those_there_are(write: Write) -> None:
    write(TWO)
    expected = "no handler for queue 'c' of --queues; there are: a, b"
    assert complaint("tasks", choice=QueueChoice(("c",))) == expected


def test_django_is_set_up_first(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("def setup():\n    global ready\n    ready = True", "django")
    write(f"import django\nassert django.ready\n{textwrap.dedent(TWO)}")
    monkeypatch.delitem(sys.modules, "django", raising=False)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site.settings")
    assert names("tasks") == ["do_a", "do_b"]


def test_a_django_that_cannot_be_set_up_is_one_line(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("def setup():\n    raise RuntimeError('no SECRET_KEY')", "django")
    monkeypatch.delitem(sys.modules, "django", raising=False)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site.settings")
    assert complaint("tasks").startswith(
        "cannot import Django with site.settings: RuntimeError: no SECRET_KEY ("
    )
