"""The `hotqueue` command, as far as no process and no server is needed: what it says of a mistake."""

import pytest

from hotqueue.cli import group


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("infos", "No such command 'infos'. Did you mean 'info'? See hotqueue --help"),
        ("ls", "No such command 'ls'. Did you mean 'info'? See hotqueue --help"),
        ("purge emails", "No such command 'purge'. Did you mean 'clear'? See hotqueue --help"),
        ("requeue emails", "No such command 'requeue'. Did you mean 'dead'? See hotqueue --help"),
        ("worker tasks", "No such command 'worker'. Did you mean 'hotqueue-worker'? See hotqueue --help"),
        ("help", "No such command 'help'. Did you mean '--help'? See hotqueue --help"),
        ("xyz", "No such command 'xyz'. See hotqueue --help"),
        ("-u redis://x info", "Options of a command stand behind it. See hotqueue --help"),
        ("info -i", "Option '-i' requires an argument. See hotqueue info --help"),
        ("info --intervall 2", "See hotqueue info --help"),
        ("dead ls", "Missing argument 'QUEUE'. See hotqueue dead ls --help"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_use(
    capsys: pytest.CaptureFixture[str], words: str, expected: str
) -> None:
    assert group.run(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("hotqueue: ")
    assert said.endswith(f"{expected}\n")
    assert said.count("\n") == 1
