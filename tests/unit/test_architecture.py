"""The house, read from its source: which way imports go, where each risky call lives, how big things are.

If the house is meant to change, change the tables below in the same commit.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each floor may import what lies on a floor above it in this list, and nothing else of HotQueue.
# Modules that stand on one line belong together and may import each other, but never in a circle.
LIBRARY = [
    "errors keys events histogram identity resp rota stdout wakeup status",
    "probe",
    "durations pace address connection version serializers frame trail signing scripts queue_scripts retries",
    "envelope stats pool watch",
    "upkeep outbox dead offload",
    "batch",
    "supervisors",
    "delivery at_least_once at_most_once",
    "waiting aside caretaker hooks",
    "ending",
    "execution",
    "consumer own_loop",
    "handler reader",
    "queue",
    "__init__",
    "binary datadir loopback",
    "embedded",
    "cli.text cli.finder",
    "cli.access cli.body cli.rights cli.dead_entry cli.crews",
    "cli.checks cli.dead_choice",
    "cli.info",
    "cli.scene",
    "cli.screen",
    "cli.clear cli.dead cli.doctor cli.health cli.pause cli.peek cli.send cli.server cli.top cli.workers",
    "cli.group",
    "cli",
    "__main__",
]
WORKER = [
    "cgroups journal",
    "policy settings layout reading scoreboard seat company title logs oom output processes",
    "pid_file status_file reports",
    "signals application leftovers recovery options stacks stopping tally undertaker watcher shown executors",
    "work scribe",
    "member seats",
    "template_link template child book care publication keeper keepers overstays",
    "gauges metrics metrics_server",
    "generation",
    "vacancies children",
    "coroner roll",
    "limits watchdog recycling inspector crew burst",
    "generations",
    "systemd",
    "herald",
    "supervisor",
    "cli",
    "start",
    "__init__ __main__",
]

# A call, or a module → the only files that use it, below hotqueue/.
HOMES = {
    "os.fork": "worker/template.py",
    "os._exit": "worker/child.py worker/leftovers.py worker/seats.py worker/template.py",
    "os.execv": "",
    "os.kill": "worker/processes.py embedded.py identity.py status.py",
    "os.killpg": "",
    "os.waitpid": "worker/processes.py embedded.py",
    "os.posix_spawn": "binary.py",
    "subprocess": "worker/template_link.py",
    "multiprocessing": "",
    "ctypes": "worker/processes.py worker/executors.py",
    "signal.pidfd_send_signal": "worker/processes.py",
    "signal.signal": "wakeup.py cli/server.py worker/signals.py",
    "signal.set_wakeup_fd": "wakeup.py worker/signals.py",
    "signal.pthread_sigmask": "worker/signals.py",
    "structlog.configure": "worker/logs.py",
    "logging.basicConfig": "",
    "setproctitle": "worker/title.py",
    "click": (
        "cli/access.py cli/clear.py cli/dead.py cli/dead_choice.py cli/doctor.py cli/group.py"
        " cli/health.py cli/info.py cli/pause.py cli/peek.py cli/send.py cli/server.py cli/top.py"
        " cli/workers.py worker/cli.py worker/options.py"
    ),
    "sys.exit": "__main__.py worker/cli.py worker/template.py",  # each is where a process begins
    "rich": "cli/top.py",
    "termios": "cli/top.py",
    "redis": "errors.py address.py connection.py",
}

# A file over 250 lines → why it is still one noun.
BIG_FILES: dict[str, str] = {
    "connection.py": "one connection: each way to send and to read, and one word for each way to fail",
    "queue.py": "the public class: more than half of it is signatures and docstrings",
    "at_least_once.py": "one lane and its rules, which are read together",
    "consumer.py": "the loop: what is next, what is not asked, and when to wait are one decision",
    "worker/cli.py": "most of it declares the options, which are read as one list",
    "worker/keeper.py": "one thread: all that a supervisor has to do with one server",
    "worker/crew.py": "one book of slots: who may come, who goes, what an end means",
    "worker/supervisor.py": "one pass of the main loop, top to bottom",
}
MAX_FILE_LINES = 250
MAX_FUNCTION_LINES = 40  # without its docstring


def sources() -> list[Path]:
    return sorted((ROOT / "hotqueue").rglob("*.py"))


def short(path: Path) -> str:
    return path.relative_to(ROOT / "hotqueue").as_posix()


def module(path: Path) -> str:
    """`hotqueue.worker.cli` for hotqueue/worker/cli.py, and the name of the package for its __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    """The source without its `if TYPE_CHECKING:` blocks: what they import is never run."""
    parsed = ast.parse(path.read_text(encoding="utf-8"), str(path))

    class RunTime(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            self.generic_visit(node)
            return node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else node

    RunTime().visit(parsed)
    return parsed


def used_names(path: Path) -> Iterator[str]:
    """Every dotted name that this file uses or imports, with the name of the module it came from."""
    origin: dict[str, str] = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
                origin[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            base = absolute(path, node)
            for alias in node.names:
                yield f"{base}.{alias.name}"
                origin[alias.asname or alias.name] = f"{base}.{alias.name}"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            if head in origin:
                yield f"{origin[head]}.{rest}"


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """The module that `from … import` names, also when it is written with dots."""
    if not node.level:
        return node.module or ""
    package = module(path).split(".") if path.name == "__init__.py" else module(path).split(".")[:-1]
    return ".".join(package[: len(package) - node.level + 1] + ([node.module] if node.module else []))


def imported_modules(path: Path) -> set[str]:
    """The modules of HotQueue that this file imports."""
    known = {module(p) for p in sources()}
    found = set()
    for name in used_names(path):
        parts = name.split(".")
        candidates = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        found.add(next((c for c in candidates if c in known), None))
    return {name for name in found if name} - {module(path)}


def floors() -> dict[str, int]:
    """Module → the number of its floor; all of the worker stands above all of the library."""
    rows = [("hotqueue", row) for row in LIBRARY] + [("hotqueue.worker", row) for row in WORKER]
    return {
        f"{package}.{name}".removesuffix(".__init__"): floor
        for floor, (package, row) in enumerate(rows)
        for name in row.split()
    }


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function with its number of lines, the docstring not counted."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield node.name, lines - (docstring.count("\n") + 1 if docstring else 0)


def test_every_file_has_a_floor() -> None:
    homeless = {module(p) for p in sources()} - floors().keys()
    assert not homeless, "give them a place in LIBRARY or WORKER"


def test_every_floor_has_its_files() -> None:
    gone = floors().keys() - {module(p) for p in sources()}
    assert not gone, "take them out of LIBRARY or WORKER"


@pytest.mark.parametrize("path", sources(), ids=short)
def test_imports_go_down_only(path: Path) -> None:
    floor = floors()
    own = floor.get(module(path), len(floor))
    upward = {name for name in imported_modules(path) if floor.get(name, 0) > own}
    assert not upward


def test_no_module_imports_itself_through_others() -> None:
    imports = {module(p): imported_modules(p) for p in sources()}
    settled: set[str] = set()
    while ready := {name for name, needs in imports.items() if needs <= settled} - settled:
        settled |= ready
    assert imports.keys() - settled == set()


@pytest.mark.parametrize("path", [p for p in sources() if not short(p).startswith("worker/")], ids=short)
def test_the_library_never_imports_the_worker(path: Path) -> None:
    assert not {n for n in used_names(path) if n == "hotqueue.worker" or n.startswith("hotqueue.worker.")}


@pytest.mark.parametrize("call", HOMES)
def test_a_risky_call_is_used_in_its_homes_and_nowhere_else(call: str) -> None:
    users = {short(p) for p in sources() for n in used_names(p) if n == call or n.startswith(f"{call}.")}
    assert users == set(HOMES[call].split())


def test_a_file_over_250_lines_has_a_reason() -> None:
    big = {short(p) for p in sources() if len(p.read_text(encoding="utf-8").splitlines()) > MAX_FILE_LINES}
    assert big == BIG_FILES.keys()


@pytest.mark.parametrize("path", sources(), ids=short)
def test_no_function_is_over_40_lines(path: Path) -> None:
    assert not [(name, lines) for name, lines in functions(path) if lines > MAX_FUNCTION_LINES]


def test_no_tracked_file_names_a_folder_of_somebody_s_machine() -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    private = re.compile(
        r"(?<![\w.$}-])/(?:[h]ome|[U]sers|[r]oot|[w]ork)/(?!ada/)\w"
    )  # Ada is made up, for the documentation
    leaks = [
        f"{name}:{number}"
        for name in listing.stdout.split("\0")
        if name and (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text("utf-8", errors="replace").splitlines(), 1)
        if private.search(line)
    ]
    assert not leaks
