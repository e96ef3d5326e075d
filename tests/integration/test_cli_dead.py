"""`hotqueue dead`: what is shown, what is chosen, and that nothing is done to many without a word."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pexpect
import pytest
import redis

from hotqueue import HotQueue, keys
from hotqueue.envelope import noted
from hotqueue.frame import wrap
from hotqueue.trail import Trail
from tests.support.admin import MARKER, Admin, Trap
from tests.support.commands import app, run


@pytest.fixture
def admin(redis_url: str, tmp_path: Path) -> Admin:
    return Admin(redis_url, tmp_path)


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue("emails", url=redis_url)


def kill(
    queue: HotQueue,
    client: redis.Redis,
    error: str = "ValueError: no",
    handler: str = "work",
    age_s: float = 0.0,
) -> str:
    """Put one message in the dead list; return its id."""
    message_id = queue.send({"to": "Ada"}, headers={"tenant": 5})
    trail = Trail(failures=3).with_reason(
        kind="failed", error=error, handler=handler, traceback="Traceback:\n  line 1\nValueError: no\n"
    )
    at_ms = int((time.time() - age_s) * 1000)
    client.zadd(keys.dead(queue.name), {noted(client.rpop(queue.key), trail): at_ms})
    return message_id


def listed(admin: Admin, *options: str) -> list[str]:
    return [each["id"] for each in admin.json("dead", "ls", "emails", *options)]


def test_ls_shows_the_newest_first_with_handler_attempts_and_error(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    old, new = kill(queue, client, age_s=60), kill(queue, client, "KeyError: 'x'\n  twice")
    lines = admin("dead", "ls", "emails").splitlines()
    assert lines[0].startswith(new)
    assert lines[0].endswith("work  3 attempts")
    assert lines[1] == "    KeyError: 'x'\\n  twice"
    assert lines[2].startswith(old)
    assert lines[4] == "2 of 2 dead messages of emails."


def test_ls_in_json_is_an_object_a_line(admin: Admin, queue: HotQueue, client: redis.Redis) -> None:
    message_id = kill(queue, client)
    (found,) = admin.json("dead", "ls", "emails")
    buried_at = datetime.fromisoformat(found.pop("buried_at"))
    assert abs(datetime.now(UTC) - buried_at) < timedelta(minutes=1)
    assert found == {
        "id": message_id, "queue": "emails", "kind": "failed", "handler": "work", "attempts": 3,
        "error": "ValueError: no", "size": len(queue.dead.get(message_id).frame.body),
    }  # fmt: skip


def test_ls_shows_twenty_unless_told_otherwise(admin: Admin, queue: HotQueue, client: redis.Redis) -> None:
    ids = [kill(queue, client, age_s=100 - n) for n in range(25)]
    assert listed(admin) == ids[:4:-1]
    assert listed(admin, "--limit", "2") == ids[:-3:-1]
    assert admin("dead", "ls", "emails").endswith("20 of 25 dead messages of emails.\n")


def test_filters_choose(admin: Admin, queue: HotQueue, client: redis.Redis) -> None:
    day_old = kill(queue, client, "TimeoutError: mail.example", age_s=86_400)
    hour_old = kill(queue, client, "KeyError: 'x'", "other", age_s=3600)
    new = kill(queue, client, "TimeoutError: MAIL.example")
    assert listed(admin, "--error", "mail.EX") == [new, day_old]
    assert listed(admin, "--handler", "other") == [hour_old]
    assert listed(admin, "--handler", "oth") == []
    assert listed(admin, "--since", "2h") == [new, hour_old]
    since = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    assert listed(admin, "--since", since) == [new]
    assert listed(admin, "--since", "2d", "--error", "timeout", "--limit", "1") == [new]
    assert listed(admin, "--id", day_old, "--id", new) == [day_old, new]


@pytest.mark.parametrize(
    "options", [["--since", "yesterday"], ["--id", "7"], ["--limit", "0"], ["--since", "9999999999d"]]
)
def test_a_filter_that_makes_no_sense_is_a_mistake(
    admin: Admin, queue: HotQueue, client: redis.Redis, options: list[str]
) -> None:
    kill(queue, client)
    admin("dead", "retry", "emails", "--yes", *options, code=2)
    assert len(queue.dead) == 1


def test_show_tells_everything_but_the_message_itself(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    kill(queue, client, age_s=60)
    message_id = kill(queue, client)
    shown = admin("dead", "show", "emails")
    for part in (
        message_id,
        "work",
        "3 (3 failures)",
        "ValueError: no",
        "  line 1\n",
        "tenant",
        "pickle",
        "b'\\x80",
    ):
        assert part in shown
    assert "{'to': 'Ada'}" not in shown
    (found,) = admin.json("dead", "show", "emails", "--id", message_id)
    assert (found["failures"], found["crashes"], found["interruptions"]) == (3, [], 0)
    assert found["reason"]["traceback"].startswith("Traceback")
    assert found["headers"] == {"tenant": 5}
    assert "message" not in found


def test_show_decodes_when_told_to_and_never_otherwise(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    queue.send(Trap())
    client.zadd(keys.dead("emails"), {noted(client.rpop(queue.key), Trail()): 1})
    assert admin.cwd
    for command in ("ls", "show", "retry"):
        for options in (["-j"], []):
            admin("dead", command, "emails", *options, *(["--dry-run"] if command == "retry" else []))
    assert not (admin.cwd / MARKER).exists()
    admin("dead", "show", "emails", "--decode")
    assert (admin.cwd / MARKER).exists()


def test_show_decodes_what_came_bare(admin: Admin, client: redis.Redis) -> None:
    client.zadd(keys.dead("emails"), {noted(b'{"n": 1}', Trail()): 1, noted(b"\xff\x00", Trail()): 2})
    garbage, good = admin.json("dead", "show", "emails", "--decode", "--limit", "2")
    assert (good["message"], good["bare"], good["serializer"]) == ({"n": 1}, True, "bare")
    assert garbage["body"] == "b'\\xff\\x00'"
    assert "decode_error" in garbage
    assert "it came bare" in admin("dead", "show", "emails", "--limit", "2")


def test_what_a_trail_says_cannot_play_with_the_terminal(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    kill(queue, client, "\x1b[2Jowned\x07\nnot a line", "\x9b2J")
    for words in (["ls"], ["show"], ["show", "-j"], ["ls", "-j"], ["retry", "--dry-run"]):
        shown = admin("dead", words[0], "emails", *words[1:])
        assert not {"\x1b", "\x07", "\x9b"}.intersection(shown)
    assert len(admin("dead", "ls", "emails").splitlines()) == 3


def test_on_a_terminal_no_line_of_a_list_is_longer_than_it(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    kill(queue, client, "日本語" * 50, "h" * 50)
    with admin.terminal("dead", "ls", "emails", columns=80) as terminal:
        terminal.expect(pexpect.EOF)
    lines = terminal.before.splitlines()
    assert len(lines[0]) == 80
    assert lines[0].endswith("…")
    assert lines[1] == "    " + "日本語" * 12 + "日…"


def test_what_was_put_there_by_somebody_else_is_shown_and_dropped(admin: Admin, client: redis.Redis) -> None:
    client.zadd(keys.dead("emails"), {b"": 1, b"\xc1HQ": 2, b"\xc1HQ\x01" + b"\xff" * 60: 3, wrap(b"x"): 4})
    assert "no reason is noted" in admin("dead", "ls", "emails")
    assert len(admin.json("dead", "show", "emails", "--limit", "10")) == 4
    assert admin("dead", "drop", "emails", "--yes") == "Dropped 4 messages of emails.\n"


def test_one_is_retried_without_a_question(admin: Admin, queue: HotQueue, client: redis.Redis) -> None:
    _, second, _ = (kill(queue, client) for _ in range(3))
    assert admin("dead", "retry", "emails", "--id", second) == "Retried 1 message of emails.\n"
    assert queue.dequeue() == {"to": "Ada"}
    assert len(queue.dead) == 2


def test_many_are_not_touched_without_a_terminal_and_without_yes(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    for _ in range(3):
        kill(queue, client)
    for verb in ("retry", "drop"):
        said = admin("dead", verb, "emails", "--error", "no", code=2)
        assert f"{verb.capitalize()} 3 dead messages of emails?" in said
    assert len(queue.dead) == 3


@pytest.mark.parametrize(("answer", "code_and_left"), [("y", (0, 1)), ("n", (1, 3))])
def test_on_a_terminal_many_are_counted_and_one_is_asked(
    admin: Admin, queue: HotQueue, client: redis.Redis, answer: str, code_and_left: tuple[int, int]
) -> None:
    for error in ("KeyError", "KeyError", "ValueError"):
        kill(queue, client, error)
    question = "Drop 2 dead messages of emails? [y/N]"
    words = ["dead", "drop", "emails", "--error", "keyerror"]
    code = admin.answered(*words, question=question, answer=answer)
    assert (code, len(queue.dead)) == code_and_left


def test_the_chosen_ones_are_retried_oldest_first(admin: Admin, queue: HotQueue, client: redis.Redis) -> None:
    ids = [kill(queue, client, "KeyError" if n % 2 else "ValueError", age_s=100 - n) for n in range(10)]
    assert admin.json("dead", "retry", "emails", "--error", "key", "--limit", "3", "--yes") == [
        {"queue": "emails", "retried": 3}
    ]
    assert [each["id"] for each in admin.json("peek", "emails")] == ids[1:7:2]
    assert {each["attempt"] for each in admin.json("peek", "emails")} == {1}


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_a_dry_run_does_nothing_and_shows_what_would_be_done(
    admin: Admin, queue: HotQueue, client: redis.Redis, verb: str
) -> None:
    ids = [kill(queue, client, age_s=100 - n) for n in range(22)]
    shown = admin("dead", verb, "emails", "--dry-run", "--since", "1h")
    assert ids[0] in shown
    assert ids[21] not in shown
    assert "… and 2 more" in shown
    assert f"Would {verb} 22 messages of emails; nothing was done." in shown
    (said,) = admin.json("dead", verb, "emails", "--dry-run")
    assert 22 in said.values()
    assert len(queue.dead) == 22


def test_an_id_that_is_not_there_spoils_the_whole_command(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    message_id, unknown = kill(queue, client), str(uuid4())
    said = admin("dead", "drop", "emails", "--id", message_id, "--id", unknown, "--yes", code=1)
    assert said == f"hotqueue: no dead message has the id {unknown}\n"
    assert len(queue.dead) == 1


def test_a_message_that_crashed_its_worker_and_one_that_failed_can_be_retried_after_a_fix(
    admin: Admin, queue: HotQueue
) -> None:
    assert admin.cwd
    broken = """
        import os, signal
        from hotqueue import HotQueue
        @HotQueue("emails").worker(retries=0)
        def work(message):
            if message == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            raise ValueError(message)
        """
    app(admin.cwd, broken)
    words = ("hotqueue-worker", "tasks", "--burst", "-c", "1", "--max-crashes", "1")
    ids = [queue.send("crash"), queue.send("fail")]
    run(*words, env=admin.env, cwd=admin.cwd)
    errors = {each["id"]: (each["kind"], each["error"]) for each in admin.json("dead", "ls", "emails")}
    assert errors[ids[0]][0] == "crashed"
    assert "SEGV" in errors[ids[0]][1]
    assert errors[ids[1]] == ("failed", "ValueError: fail")
    app(admin.cwd, broken[: broken.index("if message")] + "open('done', 'a').write(message + '\\n')\n")
    admin("dead", "retry", "emails", "--yes")
    assert run(*words, env=admin.env, cwd=admin.cwd).returncode == 0
    assert sorted((admin.cwd / "done").read_text().split()) == ["crash", "fail"]
    assert queue.stats().total == 0


def test_the_locale_need_not_be_able_to_write_what_is_shown(
    redis_url: str, tmp_path: Path, queue: HotQueue, client: redis.Redis
) -> None:
    kill(queue, client, "日本語")
    admin = Admin(redis_url, tmp_path, {"PYTHONIOENCODING": "iso-8859-1"})
    assert "\\u65e5" in admin("dead", "ls", "emails")
