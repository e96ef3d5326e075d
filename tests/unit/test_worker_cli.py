"""The command line of hotqueue-worker, as far as no process is needed."""

import os
from pathlib import Path

import pytest

from hotqueue.worker import cli
from hotqueue.worker.options import misspelled
from hotqueue.worker.settings import from_pyproject


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No options but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HOTQUEUE_")]:
        monkeypatch.delenv(name)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command says before it ends with code 2."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    said = capsys.readouterr().err.splitlines()
    assert (end.value.code, len(said)) == (2, 1)
    assert said[0].startswith("hotqueue-worker: ")
    return said[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "name a module, as in: hotqueue-worker myapp.tasks"),
        (["--embedded", "tasks"], "('tasks' was read as the folder of --embedded: put the module first)"),
        (["tasks", "-c0"], "'-c' / '--concurrency': '0' is neither a whole number from 1 nor auto"),
        (["tasks", "-cmany"], "'many' is neither a whole number from 1 nor auto"),
        (["tasks", "-c1001"], "one worker has 1000 children at most: start several"),
        (["tasks", "-c" + "9" * 5000], "one worker has 1000 children at most"),
        (["tasks", "--max-memory=nan"], "'--max-memory': nan is no number"),
        (["tasks", "-t-1"], "'-t' / '--shutdown-timeout': -1.0 is not in the range x>=0"),
        (["tasks", "-tnan"], "nan is no number"),
        (["tasks", "-tsoon"], "'soon' is not a valid number of seconds: write 30, or 30s, 10m, 2h, 1d"),
        (["tasks", "--max-crashes=0"], "0 is not in the range x>=1"),
        (["tasks", "-Qjobs,a=2"], "'jobs,a=2' mixes an order with weights: write a,b or a=5,b=1"),
        (["tasks", "-Qjobs=0"], "'jobs=0': a weight is a whole number from 1"),
        (["tasks", "-Qjobs,jobs"], "'jobs,jobs' names a queue twice"),
        (["tasks", "-Qjobs,"], "a queue name must not be empty"),
        (["tasks", "--burts"], "--burts"),
        (["tasks", "-P", "threads"], "See hotqueue-worker --help"),
        (["tasks", "--metrics=x"], "'x' is no address: write a port, as 9100, or 0.0.0.0:9100"),
        (["tasks", "--metrics=0"], "'--metrics': '0' is no address"),
        (["tasks", "--metrics=65536"], "'65536' is no address"),
        (["tasks", "--metrics=" + "9" * 5000], "is no address"),
        (["tasks", "--metrics=::1:9100"], "'::1:9100' is no address"),
        (["tasks", "--metrics=localhost:"], "'localhost:' is no address"),
        (["tasks", "-lloud"], "'loud' is not one of 'debug', 'info', 'warning', 'error', 'critical'"),
    ],
)
def test_an_option_that_cannot_be_is_named(
    capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    assert expected in complaint(capsys, *options)


def test_lengths_of_time_may_have_a_unit_wherever_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hotqueue]\nmax-dead-age = '30d'\ntime-limit = 60")
    monkeypatch.setenv("HOTQUEUE_SOFT_TIME_LIMIT", "0.5m")
    settings, _ = cli.command.main(
        ["tasks", "-t", "1.5h", "--connect-timeout=0"],
        standalone_mode=False,
        auto_envvar_prefix="HOTQUEUE",
        default_map=from_pyproject(tmp_path / "pyproject.toml", {"max_dead_age", "time_limit"}),
    )
    assert (settings.shutdown_timeout, settings.connect_timeout) == (5400, 0)
    assert (settings.max_dead_age, settings.time_limit, settings.soft_time_limit) == (30 * 86400, 60, 30)


def test_a_variable_that_cannot_be_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTQUEUE_SHUTDOWN_TIMEOUT", "soon")
    assert "'--shutdown-timeout'" in complaint(capsys, "tasks")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("[tool.hotqueue]\nconcurency = 3", "there is no option 'concurency'"),
        ("[tool.hotqueue]\ncheck = true", "there is no option 'check'"),
        ("[tool.hotqueue]\nconcurrency = 0", "'0' is neither a whole number from 1 nor auto"),
        ("[tool.hotqueue]\nqueues = ['a', 'b']", "['a', 'b'] is not text"),
        ("[tool.hotqueue]\nburst = [true]", "[True] is not text"),
        ("[tool.hotqueue]\nburst = 3", "'3' is not a valid boolean"),
        ("[tool]\nhotqueue = 3", "cannot read [tool.hotqueue]"),
        ("[tool.hotqueue", "cannot read [tool.hotqueue]"),
    ],
)
def test_what_pyproject_toml_says_wrong_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, expected: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(file)
    assert expected in complaint(capsys, "tasks")


@pytest.mark.parametrize("word", ["1", "true", "yes"])
def test_the_private_server_s_variable_may_just_say_yes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("HOTQUEUE_EMBEDDED", word)
    assert "('.hotqueue' was read as the folder" in complaint(capsys)


def test_the_private_server_s_variable_may_just_say_no(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTQUEUE_EMBEDDED", "0")
    assert "folder" not in complaint(capsys)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::1]:9100", ("::1", 9100)),
        (":9100", ("127.0.0.1", 9100)),
    ],
)
def test_the_host_of_the_metrics_is_this_one_unless_it_is_named(value: str, expected: object) -> None:
    settings, _ = cli.command.main(["tasks", "--metrics", value], standalone_mode=False)
    assert settings.metrics == expected
    assert type(settings).load(settings.dump()) == settings


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CONCURENCY", "CONCURRENCY"), ("LOGLEVEL", "LOG_LEVEL"), ("THREAD", "THREADS"), ("QUEUE", "QUEUES"),
        ("SECRETS", "SECRET"), ("CHEK", "CHECK"),
    ],
)  # fmt: skip
def test_a_variable_that_is_almost_an_option_s_is_found(variable: str, meant: str) -> None:
    found = misspelled({f"HOTQUEUE_{variable}": "4"}, {*cli._names(), "check"})
    assert list(found) == [(f"HOTQUEUE_{variable}", f"HOTQUEUE_{meant}")]


def test_variables_that_are_read_or_are_somebody_else_s_are_left_alone() -> None:
    read = ["URL", "CONCURRENCY", "ENVELOPE", "SECRET", "STRICT", "CHECK"]
    others = ["VERSION", "PORT", "SERVICE_HOST", "SERVICE_PORT", "SERVER_PORT", "METRICS_PORT", "DB", "USER",
              "METRICS_SERVICE_HOST", "PORT_6379_TCP_ADDR", "HOME", "INFO_INTERVAL"]  # fmt: skip
    environment = [f"HOTQUEUE_{word}" for word in read + others] + ["CONCURENCY", "HOTQUEUE"]
    assert list(misspelled(environment, {*cli._names(), "check"})) == []
