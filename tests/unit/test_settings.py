"""Settings: what was told, read and carried to other processes."""

from pathlib import Path

import pytest

from hotqueue.errors import ConfigurationError
from hotqueue.worker.settings import QueueChoice, Settings, from_pyproject, parse_queues


@pytest.mark.parametrize(
    "settings",
    [
        Settings(targets=("tasks",)),
        Settings(
            targets=("a.b:c", "d"),
            concurrency=3,
            concurrency_why="as told",
            queues=QueueChoice(("x", "y"), {"x": 5, "y": 1}),
            url="redis://:pw@host/0",
            shutdown_timeout=float("inf"),
            burst=True,
        ),
    ],
)
def test_settings_arrive_as_they_were_sent(settings: Settings) -> None:
    assert Settings.load(settings.dump()) == settings


def test_names_alone_are_a_strict_order() -> None:
    choice = parse_queues("b, a")
    assert (choice.names, choice.weights, choice.strict) == (("b", "a"), None, True)


def test_names_with_numbers_are_weights() -> None:
    choice = parse_queues("critical=5, default=1")
    assert choice.names == ("critical", "default")
    assert choice.weights == {"critical": 5, "default": 1}
    assert not choice.strict


def test_no_choice_is_no_order() -> None:
    assert not QueueChoice().strict


@pytest.mark.parametrize(
    "text", ["", "a,", "a,b=1", "a=0", "a=-1", "a=x", "a=", "a=²", "a,a", "a=1,a=2", "{a}"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_queues(text)


def test_what_the_file_of_the_project_says_is_read_as_if_it_were_typed(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.hotqueue]\nburst = true\npid = 5\nmax-memory = 0.5\nurl = "redis://host"\n')
    expected = {"burst": "true", "pid": "5", "max_memory": "0.5", "url": "redis://host"}
    assert from_pyproject(file, expected.keys()) == expected
