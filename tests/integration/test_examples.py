"""Every example as its first lines say it is run, with the real worker and a real server."""

import gzip
import http.server
import os
import shutil
import sys
import threading
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest
import redis

from tests.support.commands import run, start
from tests.support.servers import LiveServer, free_port
from tests.support.transcript import Page, shown
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = Path(sys.executable).parent
RUN_ELSEWHERE = {
    "demo": "tests/process/test_demo.py",
    "grafana_dashboard": "tests/unit/test_metrics_pages.py",
    "procfile_app": "tests/process/test_procfile.py",
    "systemd": "tests/unit/test_systemd_unit.py",
}


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    """Examples are found from a folder that is not theirs, where they may leave files."""
    return {"HOTQUEUE_URL": redis_url, "PYTHONPATH": str(ROOT)}


def python(*argv: str, env: dict[str, str], cwd: Path) -> None:
    ended = run(sys.executable, *argv, env=env, cwd=cwd)
    assert ended.returncode == 0, ended.stderr


def burst(*argv: str, env: dict[str, str], cwd: Path) -> list[str]:
    """What the handlers print until nothing is waiting any more."""
    ended = run("hotqueue-worker", *argv, "--burst", env=env, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_hello_greets_everybody(environment: dict[str, str], tmp_path: Path) -> None:
    python("-m", "examples.hello", env=environment, cwd=tmp_path)
    said = burst("examples.hello", "-c", "2", env=environment, cwd=tmp_path)
    assert sorted(said) == ["Hello, Ada!", "Hello, Grace!"]


def test_a_bound_method_handles_with_its_object(environment: dict[str, str], tmp_path: Path) -> None:
    python("-m", "examples.method_handler", env=environment, cwd=tmp_path)
    said = burst("examples.method_handler:mailer.deliver", env=environment, cwd=tmp_path)
    assert said == ["from office@example.org to ada@example.org"]


def test_json_that_any_program_pushed_reaches_the_handler(
    environment: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    client.rpush("hotqueue:emails", '{"to": "ada@example.org", "subject": "Grüße"}')
    said = burst("examples.json_from_anywhere", env=environment, cwd=tmp_path)
    assert said == ["to ada@example.org: Grüße"]


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ("urgent,bulk", ["urgent"] * 6 + ["bulk"] * 6),
        ("bulk,urgent", ["bulk"] * 6 + ["urgent"] * 6),
        ("bulk", ["bulk"] * 6),
    ],
)
def test_the_order_of_queues_is_the_order_of_work(
    queues: str, said: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    python("-m", "examples.several_queues", env=environment, cwd=tmp_path)
    lines = burst("examples.several_queues", "-Q", queues, "-c", "1", env=environment, cwd=tmp_path)
    assert [line.split()[0] for line in lines] == said


def test_a_queue_of_weight_three_gets_three_turns_for_one(
    environment: dict[str, str], tmp_path: Path
) -> None:
    python("-m", "examples.several_queues", env=environment, cwd=tmp_path)
    weights = "urgent=3,bulk=1"
    lines = burst("examples.several_queues", "-Q", weights, "-c", "1", env=environment, cwd=tmp_path)
    kinds = [line.split()[0] for line in lines]
    assert kinds[:4].count("urgent") == kinds[4:8].count("urgent") == 3
    assert kinds.count("urgent") == kinds.count("bulk") == 6


def test_one_handler_runs_many_kinds_of_job_and_keeps_an_unknown_one(
    environment: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    python("-m", "examples.many_kinds", env=environment, cwd=tmp_path)
    client.rpush("hotqueue:jobs", '{"kind": "fly", "arguments": {}}')
    said = burst("examples.many_kinds", "-c", "1", env=environment, cwd=tmp_path)
    assert said == ["welcome, Ada", "ada.png is now 640 pixels wide"]
    assert client.zcard("{hotqueue:jobs}:dead") == 1


def test_an_async_handler_awaits_many_things_at_once(
    environment: dict[str, str], server: LiveServer, tmp_path: Path
) -> None:
    taken, free = f"127.0.0.1:{server.port}", f"127.0.0.1:{free_port()}"
    python("-m", "examples.async_handler", taken, free, env=environment, cwd=tmp_path)
    said = burst("examples.async_handler", env=environment, cwd=tmp_path)
    assert said == [f"{taken} is open", f"{free} does not answer"]


def test_lines_become_messages_by_few_commands(
    environment: dict[str, str], server: LiveServer, tmp_path: Path
) -> None:
    before = server.info.get("cmdstat_rpush", {"calls": 0})["calls"]
    script = f"seq 1200 | {sys.executable} -m examples.import_lines"
    ended = run("sh", "-c", script, env=environment, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "1200 lines are accepted\n"), ended.stderr
    assert server.info["cmdstat_rpush"]["calls"] - before == 3
    assert server.admin.lrange("hotqueue:lines", 0, 1) == [b"1", b"2"]


def test_tasks_of_an_event_loop_send(environment: dict[str, str], tmp_path: Path) -> None:
    ended = run(sys.executable, "-m", "examples.async_producer", env=environment, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "9 readings are waiting\n"), ended.stderr


def test_pages_are_fetched_at_once_by_one_child(environment: dict[str, str], tmp_path: Path) -> None:
    together = threading.Barrier(3)

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            together.wait(60)  # nobody gets an answer before all have asked
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * int(self.path[1:]))

        def log_message(self, *_: object) -> None:
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    pages = [f"127.0.0.1:{site.server_port}/{size}" for size in (1, 2, 3)]
    python("-m", "examples.fetch_pages", *pages, env=environment, cwd=tmp_path)
    said = burst("examples.fetch_pages", "-c", "1", "--tasks", "50", env=environment, cwd=tmp_path)
    site.shutdown()
    site.server_close()
    assert sorted(said) == [f"{page} 200 {size} bytes" for size, page in zip((1, 2, 3), pages, strict=True)]


def test_a_flask_view_enqueues_and_the_handler_has_the_context_of_the_application(
    environment: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    port = free_port()
    flask = [str(COMMANDS / "flask"), "--app", "examples.flask_app", "run", "--port", str(port)]
    with start(*flask, env=environment, cwd=tmp_path) as web:
        wait_until(lambda: "Running on" in web.stderr_text() + web.stdout_text(), 30, "Flask listens")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/greet/Ada", method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 202
    assert client.llen("hotqueue:visitors") == 1
    assert burst("examples.flask_app", env=environment, cwd=tmp_path) == ["Hello, Ada!"]


def test_a_django_order_is_confirmed_if_it_was_committed_and_not_enqueued_otherwise(
    environment: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    environment |= {"DJANGO_SETTINGS_MODULE": "examples.django_shop.settings"}
    django = "import django; django.setup(); from examples.django_shop.models import Order; "
    place = "from examples.django_shop.orders import place_order; "
    python("-m", "django", "migrate", "--run-syncdb", env=environment, cwd=tmp_path)
    python("-c", f"{django} {place} place_order('Ada')", env=environment, cwd=tmp_path)

    rolled_back = "with transaction.atomic(): place_order('Grace'); transaction.set_rollback(True)"
    source = f"{django} {place} from django.db import transaction\n{rolled_back}"
    python("-c", source, env=environment, cwd=tmp_path)
    assert client.llen("hotqueue:orders") == 1

    said = burst("examples.django_shop.tasks", env=environment, cwd=tmp_path)
    assert said == ["order 1 of Ada is confirmed"]
    check = "assert list(Order.objects.values_list('customer', 'is_confirmed')) == [('Ada', True)]"
    python("-c", f"{django} {check}", env=environment, cwd=tmp_path)


@pytest.mark.parametrize(
    "name", ["async-handlers", "django", "json-from-another-language", "many-kinds-of-job"]
)
def test_a_how_to_shows_what_its_example_prints(
    name: str, environment: dict[str, str], server: LiveServer, tmp_path: Path
) -> None:
    path = [str(COMMANDS), str(redis_cli_of(server, tmp_path)), os.environ["PATH"]]
    environment |= {"PATH": os.pathsep.join(path)}
    page = Page(ROOT / "docs" / "how-to" / f"{name}.md")
    if name.startswith("json") and not (tmp_path / "redis-cli").exists():
        pytest.skip("there is no redis-cli")
    blocks = [block for block in page.blocks("console") if "--burst" in block or "RPUSH" in block]
    assert blocks
    for block in blocks:
        lines = block.replace("localhost:6379", f"localhost:{server.port}").splitlines()
        script = "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
        ended = run("sh", "-e", "-c", script, env=environment, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert shown(ended.stdout.splitlines()) == shown(line for line in lines if not line.startswith("$ "))


def redis_cli_of(server: LiveServer, folder: Path) -> Path:
    """A folder with a redis-cli, if there is one, that finds the server and talks as on a terminal."""
    program = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if program:
        wrapper = folder / "redis-cli"
        wrapper.write_text(f'#!/bin/sh\nexec {program} -p {server.port} --no-raw "$@"\n')
        wrapper.chmod(0o755)
    return folder


def test_each_example_is_run_by_a_test() -> None:
    examples = {path.stem for path in (ROOT / "examples").iterdir() if not path.name.startswith(("_", "."))}
    here = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in examples - set(RUN_ELSEWHERE) if f"examples.{name}" not in here} == set()
    assert all((ROOT / test).exists() for test in RUN_ELSEWHERE.values())


def test_sqlalchemy_has_a_session_for_each_message(environment: dict[str, str], tmp_path: Path) -> None:
    python("-m", "examples.sqlalchemy_app", "Ada", "Grace", env=environment, cwd=tmp_path)
    said = burst("examples.sqlalchemy_app", "-c1", env=environment, cwd=tmp_path)
    assert said == ["Hello, Ada! That makes 1.", "Hello, Grace! That makes 1."]


def test_a_trace_goes_on_in_the_worker(environment: dict[str, str], tmp_path: Path) -> None:
    sent = run(sys.executable, "-m", "examples.opentelemetry_app", env=environment, cwd=tmp_path)
    assert sent.returncode == 0, sent.stderr
    trace_id = sent.stdout.split()[1]
    said = "\n".join(burst("examples.opentelemetry_app", env=environment, cwd=tmp_path))
    assert "Hello, Ada!" in said
    assert f'"trace_id": "0x{trace_id}"' in said
    assert '"name": "greet"' in said


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes what is posted."""

    got: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_sentry_is_told_of_an_error_and_of_its_message(environment: dict[str, str], tmp_path: Path) -> None:
    python("-m", "examples.sentry_app", env=environment, cwd=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment |= {"SENTRY_DSN": f"http://key@127.0.0.1:{server.server_port}/1"}
        assert burst("examples.sentry_app", env=environment, cwd=tmp_path) == ["3"]
        server.shutdown()
    (told,) = [body for body in Sink.got if b"ZeroDivisionError" in body and b'"queue":"divisions"' in body]
    assert b'"transaction":"divide"' in told
